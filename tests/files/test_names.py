"""What a name is, wherever one is taken: in files, tables, prompts, judges, vectors, records, run folders, options."""

import json
from dataclasses import replace

import pytest
import torch

import lens_emotion as le
from lens_emotion.errors import ArtifactError, LensEmotionError, StimulusError
from lens_emotion.extraction.activations import Header, TextRecord
from lens_emotion.files.names import check_label, is_name, name_of
from lens_emotion.steering.judge_files import read_judge_file, words_of
from lens_emotion.steering.judges import Judge
from lens_emotion.stimuli.prompts import read_prompts, read_scenarios
from lens_emotion.stimuli.sets import read_stimulus_file, read_written, write_written
from lens_emotion.vectors.emotion_vectors import EmotionVectors

UNSEEN = {
    "spaces": "  ", "NBSP": "\u00a0", "ideographic space": "\u3000", "zero width space": "\u200b", "BOM": "\ufeff",
    "word joiner": "\u2060", "joiner": "\u200d", "right to left mark": "\u200f", "override": "\u202e",
    "soft hyphen": "\u00ad", "Hangul filler": "\u3164", "Braille blank": "\u2800", "accent alone": "\u0301",
    "variation": "\ufe0f", "tag": "\U000e0041", "tab": "\t", "several": " \u200b\ufeff",
}  # fmt: skip
CONTROLS = {"line break": "a\nb", "NUL": "a\0b", "C1": "a\x85b", "separator": "a\u2028b"}
HALF = {"half a character": "a\ud800"}
FORMS = {"spaces": " caf\u00e9 ", "NFD": "cafe\u0301", "NBSP": "caf\u00e9\u00a0", "both": "\u3000cafe\u0301 "}
ENDS = {
    "BOM": "\ufeffcalm",
    "zero width": "calm\u200b",
    "mark": "\u200ecalm",
    "override": "calm\u202e ",
    "hyphen": " \u00adcalm",
}
SEEN = ("calm", "!", "\u00e9", "\u6094\u3057\u3044", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u2764\ufe0f",
        "\U0001f469\u200d\U0001f680", "[red]", "very  calm")  # fmt: skip
HEADER = Header("m", "f", "llama", "bridge", "4", "float32", "x", "y", "z", "s")


def _item(**changes):
    return {"id": "one", "emotion": "calm", "topic": "tea", "text": "The tea was warm."} | changes


def _file(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def _vectors(*names):
    sizes = torch.ones(len(names), 1)
    return EmotionVectors(torch.ones(len(names), 1, 1), names, sizes, sizes, torch.ones(1), HEADER)


def _texts(**changes):
    return le.stimuli_from([_item(**changes), _item(id="two", emotion="sad")])


TAKERS = {
    **{f"stimulus file, {k}": lambda p, n, k=k: read_stimulus_file(_file(p, {"items": [_item(**{k: n})]}))
       for k in ("id", "emotion", "topic", "person", "language", "text")},
    "stimulus file, name": lambda p, n: read_stimulus_file(_file(p, {"name": n, "items": [_item()]})),
    "stimulus file, forbidden": lambda p, n: read_stimulus_file(
        _file(p, {"forbidden": {n: ["x"]}, "items": [_item()]})),
    **{f"table, {k}": lambda p, n, k=k: _texts(**{k: n}) for k in ("id", "emotion", "topic", "person", "language")},
    "table by emotion": lambda p, n: le.stimuli_from({"calm": ["a"], n: ["b"]}),
    "table, name": lambda p, n: le.stimuli_from(["a", "b"], ["calm", "sad"], name=n),
    **{f"Stimulus, {k}": lambda p, n, k=k: replace(le.Stimulus("a", "b", "calm", "tea"), **{k: n})
       for k in ("text_id", "emotion", "topic", "person", "language")},
    "StimulusSet": lambda p, n: le.StimulusSet(n, ()),
    **{f"StoryPrompt, {k}": lambda p, n, k=k: replace(le.StoryPrompt("a", "b", "calm", "tea"), **{k: n})
       for k in ("prompt_id", "text", "emotion", "topic")},
    **{f"Scenario, {k}": lambda p, n, k=k: replace(le.Scenario("a", "calm", "b"), **{k: n})
       for k in ("scenario_id", "emotion", "opening")},
    **{f"prompt file, {k}": lambda p, n, k=k: read_prompts(
        _file(p, {"prompts": [_item(**{k: n}), _item(emotion="x", id="two")]}))
       for k in ("id", "emotion", "topic", "text")},
    "scenario file": lambda p, n: read_scenarios(
        _file(p, {"scenarios": [{"id": n, "emotion": "calm", "opening": "a"}]})),
    "judge file, emotion": lambda p, n: read_judge_file(
        _file(p, {"kind": "words", "words": {"en": {n: ["a"], "sad": ["b"]}}})),
    "judge file, language": lambda p, n: read_judge_file(
        _file(p, {"kind": "words", "words": {n: {"calm": ["a"], "sad": ["b"]}}})),
    "judge file, name": lambda p, n: read_judge_file(
        _file(p, {"kind": "words", "name": n, "words": {"en": {"calm": ["a"], "sad": ["b"]}}})),
    "Judge, name": lambda p, n: Judge(n, ("calm",), lambda texts: texts),
    "Judge, emotion": lambda p, n: Judge("a", ("other", n), lambda texts: texts),
    "EmotionVectors": lambda p, n: _vectors("other", n),
    "Header, model": lambda p, n: HEADER.with_(model=n),
    "Header, stimuli": lambda p, n: HEADER.with_(stimuli=n),
    **{f"TextRecord, {k}": lambda p, n, k=k: replace(TextRecord("a", "calm", "tea", "b"), **{k: n})
       for k in ("text_id", "emotion", "topic", "person", "language", "split")},
}  # fmt: skip


@pytest.mark.parametrize("taker", TAKERS)
def test_what_does_not_show_is_no_name_anywhere(tmp_path, taker):
    for what, name in (UNSEEN | ({} if taker.endswith((", text", ", opening")) else CONTROLS | ENDS)).items():
        with pytest.raises(LensEmotionError) as refused:
            TAKERS[taker](tmp_path, name)
        assert not isinstance(refused.value, AssertionError), (taker, what)
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("taker", TAKERS)
def test_names_of_any_script_are_names_everywhere(tmp_path, taker):
    for name in SEEN:
        TAKERS[taker](tmp_path, name)


@pytest.mark.parametrize(
    "name", [*UNSEEN.values(), *CONTROLS.values(), *ENDS.values(), *HALF.values(), None, 3, b"calm", float("nan")]
)
def test_no_name(name):
    assert not is_name(name)
    with pytest.raises(ArtifactError):
        check_label("it", name)


@pytest.mark.parametrize("form", FORMS)
def test_two_spellings_of_a_label_are_one(tmp_path, form):
    """Files and tables give the one form; what is made in memory says what it would be."""
    said = FORMS[form]
    assert name_of(said) == "caf\u00e9"
    for texts in (read_stimulus_file(_file(tmp_path, {"items": [_item(emotion=said, id=said, topic=said)]})).stimuli,
                  le.stimuli_from([_item(emotion=said, id=said, topic=said)])):  # fmt: skip
        assert (texts[0].text_id, texts[0].emotion, texts[0].topic) == ("caf\u00e9",) * 3
    with pytest.raises(StimulusError, match="occurs twice"):
        read_stimulus_file(_file(tmp_path, {"items": [_item(id=said), _item(id="caf\u00e9")]}))
    for made in (lambda: le.Stimulus(said, "a", "calm", "tea"), lambda: le.StoryPrompt("a", "b", said, "c"),
                 lambda: le.Scenario("a", said, "b"), lambda: _vectors(said, "caf\u00e9"),
                 lambda: Judge("a", (said, "caf\u00e9"), len)):  # fmt: skip
        with pytest.raises(LensEmotionError, match=r"caf\\xe9"):
            made()
    judge = {"kind": "words", "words": {"en": {said: ["a"], "sad": ["b"]}, "fr": {"caf\u00e9": ["c"]}}}
    assert words_of(read_judge_file(_file(tmp_path, judge)))["caf\u00e9"] == ("a", "c")


def test_stories_of_labels_with_joiners_are_read_back(tmp_path):
    """What isprintable refused: joiners in Persian, and emoji of several parts, once written, were never read again."""
    texts = le.StimulusSet("stories", tuple(le.Stimulus(n, "a", n, n) for n in SEEN))
    assert read_written(write_written(tmp_path / "a.json", texts))[0] == texts
    other = {"name": "stories", "items": [{"id": " a ", "emotion": "calm", "topic": "tea", "text": ""}]}
    with pytest.raises(ArtifactError, match="run the step again"):
        read_written(_file(tmp_path, other))
