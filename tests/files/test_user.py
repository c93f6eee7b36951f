"""Files that users write: every fault is named with its line, in TOML and JSON; a good file gives what it says."""

import json
import random
import sys
import tomllib
from dataclasses import FrozenInstanceError, asdict
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lens_emotion.errors import LensEmotionError, StimulusError
from lens_emotion.files.user import UserFile, read_user_file, schema_of
from lens_emotion.run.config import (
    FILES,
    ConfigError,
    StudyConfig,
    StudyForm,
    asked_for,
    read_study_file,
    write_example,
)
from lens_emotion.steering.judge_files import JudgeForm, read_judge_file, words_of
from lens_emotion.stimuli.prompts import PromptForm, ScenarioForm, read_prompts, read_scenarios
from lens_emotion.stimuli.sets import StimulusForm, read_stimulus_file

STIMULI = '''name = "meins"   # 1

[norms."wütend"]
valence = 2
arousal = 7

[[items]]
emotion = "wütend"
topic = "brief"
text = """
Sie zerriss
den Brief."""

[[items]]
emotion = "traurig"
topic = "brief"
text = "Er weinte."
'''


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_and_json_of_the_same_set_are_the_same_set(tmp_path):
    toml = read_stimulus_file(written(tmp_path, "a.toml", STIMULI))
    as_json = json.dumps(tomllib.loads(STIMULI))
    assert read_stimulus_file(written(tmp_path, "a.json", as_json)) == toml
    assert toml.stimuli.emotions == ("wütend", "traurig")
    assert (toml.stimuli.norms[0].valence, toml.stimuli.norms[0].arousal) == (2.0, 7.0)
    assert read_stimulus_file(toml.stimuli.save(tmp_path / "b.json")).stimuli == toml.stimuli


def test_an_accent_typed_as_two_characters_is_the_same_emotion(tmp_path):
    mixed = STIMULI.replace('emotion = "wütend"', 'emotion = "wu\u0308tend"')
    assert read_stimulus_file(written(tmp_path, "a.toml", mixed)).stimuli.emotions == ("wütend", "traurig")


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (('emotion = "traurig"', "emotion = 3"), 15, "item 2, emotion: expected text, got 3"),
        (('emotion = "traurig"\n', ""), 14, 'item 2: "emotion" is missing'),
        (('text = "Er weinte."', 'text = " "'), 17, "item 2, text"),
        (('text = """\nSie', 'txet = """\nSie'), 10, "did you mean text"),
        (("arousal = 7", 'arousal = "much"'), 5, "arousal: expected a number"),
        (('[norms."wütend"]', "[norms.wutend]"), 3, "no item has this emotion"),
        (('[norms."wütend"]', "[norms.wütend]"), 3, "stands in quotes"),
        (('topic = "brief"\ntext = "Er', 'topic = "brief\ntext = "Er'), 16, "not valid TOML"),
    ],
)  # fmt: skip
def test_a_fault_in_toml_is_named_with_file_line_and_place(tmp_path, change, line, words):
    faulty = STIMULI.replace(*change)
    assert faulty != STIMULI
    with pytest.raises(StimulusError) as caught:
        read_stimulus_file(written(tmp_path, "mine.toml", faulty))
    assert f"mine.toml, line {line}" in str(caught.value) and words in str(caught.value)


JSON = '{"items": [\n {"emotion": "a", "topic": "t",\n  "text": "x"},\n {"emotion": "b", "topic": "t", "text": "y"}\n]}'


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (('"text": "x"', '"text": ["x"]'), 3, "item 1, text: expected text, got a list"),
        (('"emotion": "b", ', ""), 4, 'item 2: "emotion" is missing'),
        (('"b"', '"\\ud800"'), 4, "surrogate"),
        (('"y"}', '"y"'), 5, "not valid JSON"),
    ],
)  # fmt: skip
def test_a_fault_in_json_is_named_with_file_line_and_place(tmp_path, change, line, words):
    with pytest.raises(StimulusError) as caught:
        read_stimulus_file(written(tmp_path, "mine.json", JSON.replace(*change)))
    assert f"mine.json, line {line}" in str(caught.value) and words in str(caught.value)


KEYS = st.text("abcü", min_size=1, max_size=4)
VALUES = st.recursive(
    st.integers() | st.text('xy"\\\n{}[],', max_size=6), lambda v: st.lists(v, max_size=3), max_leaves=6
)
TABLES = st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=3), max_size=4)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(TABLES)
def test_the_line_of_every_value_in_json_is_where_it_begins(data):
    """Each value on its own line: its line holds its own beginning, whatever quotes and brackets strings hold."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    file, lines = UserFile(Path("f.json"), text, data), text.splitlines()
    for at, value in _leaves(data):
        shown = lines[file.line(*at) - 1].strip().removesuffix(",")
        own = json.dumps(value, ensure_ascii=False)
        assert shown == (own if isinstance(at[-1], int) else f"{json.dumps(at[-1], ensure_ascii=False)}: {own}")


def _leaves(value, at=()):
    if isinstance(value, (dict, list)) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*at, key))
    elif at:
        yield at, value


def test_lines_of_toml_are_found_inside_lists_tables_and_texts(tmp_path):
    text = 'a = [\n "one",\n "two",\n]\n[[rows]]\nx = 1\n[[rows]]\nx = """\nlong [\n"""\ny = {z = 1}\n'
    file = UserFile(tmp_path / "f.toml", text, tomllib.loads(text))
    wanted = {("a",): 1, ("a", 1): 3, ("rows", 0): 5, ("rows", 0, "x"): 6, ("rows", 1): 7, ("rows", 1, "x"): 8}
    assert {at: file.line(*at) for at in wanted} == wanted
    assert file.line("rows", 1, "y", "z") == 11
    assert file.line("rows", 1, "missing") == 7


FORMS = {
    "stimuli": StimulusForm, "prompts": PromptForm, "scenarios": ScenarioForm, "judge": JudgeForm, "study": StudyForm,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_schema_is_valid_and_passes_the_example(tmp_path, name):
    jsonschema.Draft202012Validator.check_schema(schema_of(FORMS[name]))
    write_example(tmp_path)
    assert read_user_file(tmp_path / f"{name}.toml", FORMS[name]).data


@pytest.mark.parametrize("name", FORMS)
def test_a_shipped_schema_accepts_and_refuses_what_the_package_does(tmp_path, name):
    """A value of the example at a time is replaced by others, or left out, or stands under another name."""
    write_example(tmp_path)
    whole = tomllib.loads((tmp_path / f"{name}.toml").read_text(encoding="utf-8"))
    shipped = json.loads(resources.files("lens_emotion.files.schemas").joinpath(f"{name}.json").read_text())
    schema, seen = jsonschema.Draft202012Validator(shipped), set()
    for at in _places(whole):
        for change in (None, True, 0, -1, 20, 1.5, "", "x", [], ["x"], {}, {"x": "y"}, {"x": ["y"]}, REMOVED, RENAMED):
            data = _changed(whole, at, change)
            taken = schema.is_valid(data)
            try:
                FORMS[name].model_validate(data)
                assert taken, (at, change)
            except ValidationError:
                assert not taken, (at, change)
            seen.add(taken)
    assert seen == {True, False}


REMOVED, RENAMED = object(), object()


def _places(value, at=()):
    """Paths to a table's and a list's values; of a list the first and the last."""
    keys = value if isinstance(value, dict) else {0, len(value) - 1} if isinstance(value, list) and value else ()
    for key in keys:
        yield (*at, key)
        yield from _places(value[key], (*at, key))


def _changed(whole, at, change):
    data = parent = json.loads(json.dumps(whole))
    for key in at[:-1]:
        parent = parent[key]
    if change not in (REMOVED, RENAMED):
        parent[at[-1]] = change
    else:
        value = parent.pop(at[-1])
        if change is RENAMED and isinstance(parent, dict):
            parent[f"{at[-1]}_"] = value
    return data


def test_the_shipped_schemas_are_those_of_the_models(tmp_path, monkeypatch, capsys):
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from scripts import make_schemas

    assert make_schemas.main(["--check"]) == 0
    monkeypatch.setattr(make_schemas, "FOLDER", tmp_path)
    assert make_schemas.main(["--check"]) == 1 and "judge.json is stale" in capsys.readouterr().out
    assert make_schemas.main([]) == 0 and make_schemas.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sed": 1}, 'no field "sed"; did you mean seed?'),
        ({"seed": True}, "seed: expected an integer, got True"),
        ({"seed": "1"}, "seed: expected an integer, got '1'"),
        ({"models": "gpt2"}, "models: expected a list, got 'gpt2'"),
        ({"models": ()}, "models: no models; give at least 1 (see `lens-emotion models`)"),
        ({"doses": (1.0, float("inf"))}, "dose 2: got inf; give a finite number"),
        ({"doses": (0,)}, "dose 1: got 0; give at least 1e-06 (0 is always run)"),
        ({"dtype": "int3"}, "dtype: got 'int3'; use auto, float32, bfloat16, float16"),
        ({"overrides": {"gpt2": [1]}}, "overrides, gpt2: expected a table, got a list"),
        ({"overrides": {"gpt2": {"story_tokens": 3}}}, "settings of gpt2: story_tokens: got 3; give at least 16"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_in_the_words_of_a_file(given, words):
    with pytest.raises(ConfigError) as caught:
        StudyConfig(**given)
    assert words in str(caught.value)


def test_settings_stay_as_they_were_given():
    """A stored step's key and the manifest are made of them."""
    config = StudyConfig(doses=[2, 4.0], overrides={"gpt2": {"doses": (3,)}})
    assert repr((config.doses, config.for_model("gpt2").doses)) == "((2, 4.0), (3,))"
    assert config == StudyConfig(doses=(2, 4.0), overrides={"gpt2": {"doses": (3,)}})
    assert list(asdict(config))[:4] == ["models", "stimuli", "backend", "dtype"]
    with pytest.raises(FrozenInstanceError):
        config.seed = 1


def test_prompts_cross_templates_with_topics_and_are_refused_without_place_holders(tmp_path):
    text = (
        'templates = ["{topic}, {emotion}.", "{emotion}: {topic}"]\nneutral_templates = ["{topic}."]\n'
        'topics.a = "A"\ntopics.b = "B"\nemotions.froh = "froh {x}"\nemotions."wütend" = "wütend"\n'
    )
    found = read_prompts(written(tmp_path, "p.toml", text))
    assert [(p.emotion, p.topic, p.text) for p in found.of("topic-crossed")] == [
        ("froh", "a", "A, froh {x}."), ("froh", "b", "froh {x}: B"), ("wütend", "a", "wütend: A"),
        ("wütend", "b", "B, wütend."), ("neutral", "a", "A."), ("neutral", "b", "B."),
    ]  # fmt: skip
    with pytest.raises(StimulusError, match="plain_templates"):
        found.of("jeong")
    with pytest.raises(StimulusError, match=r"line 1, template 2: got '\{emotion\} only'"):
        read_prompts(written(tmp_path, "p.toml", text.replace("{emotion}: {topic}", "{emotion} only")))


def test_scenarios_number_themselves_and_ids_are_unique(tmp_path):
    row = '[[scenarios]]\nemotion = "froh"\nopening = "Dann"\n'
    assert [s.scenario_id for s in read_scenarios(written(tmp_path, "s.toml", row * 2))] == ["froh-0", "froh-1"]
    with pytest.raises(StimulusError, match=r"line 5, scenario 2: .*twice"):
        read_scenarios(written(tmp_path, "s.toml", 2 * row.replace("emotion", 'id = "a"\nemotion')))


def test_a_judge_joins_its_languages_and_names_what_it_lacks(tmp_path):
    text = 'kind = "words"\n[words.de]\nfroh = ["lacht"]\n"wütend" = ["schreit"]\n[words.en]\nfroh = ["laughs"]\n'
    file = read_judge_file(written(tmp_path, "j.toml", text))
    assert words_of(file) == {"froh": ("lacht", "laughs"), "wütend": ("schreit",)}
    with pytest.raises(StimulusError, match=r'line 1, kind: .*"model"'):
        read_judge_file(written(tmp_path, "j.toml", text.replace('"words"', '"classifier"')))


def test_a_study_file_says_what_runs_and_options_go_before_it(tmp_path):
    write_example(tmp_path)
    config, out = read_study_file(tmp_path / "study.toml")
    assert (config.models, config.n_permutations, config.doses) == (("tiny-llama",), 100, (2.0, 4.0, 8.0))
    assert config.stimuli == str(tmp_path / "stimuli.toml") and out == tmp_path / "run" and not config.jeong
    given = {"seed": 7, "permutations": 50, "out": tmp_path / "elsewhere"}
    config, out = asked_for([str(tmp_path / "study.toml")], None, given)
    assert (config.seed, config.n_permutations, out) == (7, 50, tmp_path / "elsewhere")
    assert asked_for([], None, {})[0] == StudyConfig()


def test_a_models_own_settings_go_before_the_files(tmp_path):
    text = 'story_tokens = 40\n[[models]]\nname = "tiny-gpt2"\n[[models]]\nname = "tiny-llama"\nstory_tokens = 99\n'
    config, _ = read_study_file(written(tmp_path, "study.toml", text))
    assert [config.for_model(m).story_tokens for m in config.models] == [40, 99]
    path = written(tmp_path, "study.toml", text)
    assert asked_for([str(path)], None, {"story_tokens": 20})[0].for_model("tiny-llama").story_tokens == 20


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('out = "../elsewhere"', "line 1, out: the run folder lies outside"),
        ('stimuli = "none.toml"', "line 1, stimuli: there is no file"),
        ('dtype = "int3"', "line 1, dtype: got 'int3'; use auto, float32"),
        ("sed = 1", "did you mean seed"),
        ("permutations = 3", "give at least 20"),
    ],
)
def test_a_faulty_study_file_is_refused_with_its_line(tmp_path, line, words):
    path = written(tmp_path, "study.toml", line + '\n[[models]]\nname = "tiny-gpt2"\n')
    with pytest.raises(StimulusError) as caught:
        read_study_file(path)
    assert words in str(caught.value)


def test_init_touches_no_file_that_is_there(tmp_path):
    from lens_emotion.errors import ArtifactError

    (tmp_path / "judge.toml").write_text("mine")
    with pytest.raises(ArtifactError, match=r"judge\.toml"):
        write_example(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["judge.toml"] and len(FILES) == 5


READERS = {
    "stimuli": read_stimulus_file,
    "prompts": read_prompts,
    "scenarios": read_scenarios,
    "judge": read_judge_file,
    "study": read_study_file,
}


@pytest.mark.parametrize("suffix", ["toml", "json"])
@pytest.mark.parametrize("name", sorted(READERS))
def test_a_file_damaged_anywhere_is_read_or_refused_by_name(tmp_path, name, suffix):
    write_example(tmp_path)
    whole = (tmp_path / f"{name}.toml").read_bytes()
    if suffix == "json":
        whole = json.dumps(tomllib.loads(whole.decode()), indent=1).encode()
    rng = random.Random(f"{name}{suffix}")
    path, refused = tmp_path / f"damaged.{suffix}", 0
    for _ in range(40):
        at, n = rng.randrange(len(whole)), rng.choice((1, 1, 30))
        path.write_bytes(
            whole[:at] + bytes(rng.choice(b'"[]{}=\n3\xff\\') for _ in range(rng.choice((0, 1)))) + whole[at + n :]
        )
        try:
            READERS[name](path)
        except LensEmotionError as error:
            refused += 1
            assert "damaged" in str(error)
    assert refused >= 5
