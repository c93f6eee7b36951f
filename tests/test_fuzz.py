"""Damaged and lying files through every reader (a small run of benchmarks/fuzz_readers.py); and the fuzz sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the suite is no part of the package

from benchmarks import fuzz_grammar, fuzz_readers
from benchmarks.fuzz_subjects import Reader

PARTS = ("manifest", "record", "verify", "compare", "Journal", "resumed", "read_run", "written", "config", "index")
NOTHING = lambda *_, **__: None  # noqa: E731


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return fuzz_readers.all_readers(tmp_path_factory.mktemp("fuzz").resolve())


def failures(readers, name, inputs, seed=1):
    """Of the readers whose name holds this."""
    found = [r for r in readers if name in r.name]
    return [f for t in fuzz_readers.run(inputs, seed, found=found).values() for f in t.failures]


def test_400_changed_and_lying_files_give_a_typed_error_or_a_right_answer(readers):
    tallies = fuzz_readers.run(400, seed=1, found=readers)
    assert len(tallies) >= 40 and sum(t.inputs for t in tallies.values()) == 400
    assert all(any(part in name for name in tallies) for part in PARTS)
    assert sum(t.lies for t in tallies.values()) > 120
    assert {name: t.failures for name, t in tallies.items() if t.failures} == {}
    assert all(t.inputs == t.errors + t.right and t.slowest < 5 for t in tallies.values())


def test_every_good_file_is_read_as_right(readers, tmp_path, monkeypatch):
    """A reader that refuses its own good file would be tried on nothing: every lie about it would be a typed error."""
    monkeypatch.setattr(fuzz_readers, "LONGEST", 100.0)  # of a machine that others use too
    for reader in readers:
        path, tally = reader.place or tmp_path / f"file{reader.suffix}", fuzz_readers.Tally()
        wrong = [fuzz_readers.tried(reader, kind, reader.good, path, tally) for kind in ("change", "lie")]
        assert (reader.name, wrong, tally.right, tally.errors) == (reader.name, ["", ""], 2, 0)


LIES = {  # reader -> what is written in the place of what
    "read_run, lens.csv": [
        ("calm,up,1,", "calm,up,-1,"), ("calm,up,1,", "calm,up,1.5,"), ("calm,up,1,", "True,up,1,x,"), (",7,", ",-7,"),
        (",7,", ",9999999,"), ("1.5", "inf"), ("1.5", "nan"), ("1.5,Latin", "1.5"), ("up", " "), ("Latin", "\0"),
        ("z,script", "z,z"), ("Latin\n", "Latin,x\n"),
    ],
    "read_run, scripts": [("0.5", "1.5"), ("0.5", "-0.5"), ("0.5", "inf"), ("0.5", ""), ("0.5", "True"),
                          ("Latin", "a\x7f")],
    "read_run, model.json": [
        ('"millions": 0.4', '"millions": -1'), ('"millions": 0.4', '"millions": 0'), ("7.5", "1e300"),
        ('"word": "calm"', '"word": ""'), ('"emotion": "calm"', '"emotion": " "'),
        ('"emotion": "calm"', '"emotion": "\\u0000"'),
    ],
    "manifest_of": [('"done": true', '"done": null')],
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_values_that_cannot_be_meant_are_refused(name, readers):
    (reader,) = [r for r in readers if r.name == name]
    for said, lie in LIES[name]:
        text = reader.good.decode()
        assert said in text, said
        tally = fuzz_readers.Tally()
        wrong = fuzz_readers.tried(reader, "lie", text.replace(said, lie, 1).encode(), reader.place, tally)
        assert (lie, wrong, tally.errors) == (lie, "", 1)
    fuzz_grammar.put(reader.place, reader.good)


@pytest.mark.parametrize("name", ["read_run, lens.csv", "read_run, scripts"])
def test_the_judge_of_tables_finds_the_same_lies_where_no_check_is(name, readers, monkeypatch):
    monkeypatch.setattr("lens_emotion.study.stored._columns", lambda path, *_: pd.read_csv(path, na_filter=False))
    (reader,) = [r for r in readers if r.name == name]
    for said, lie in LIES[name]:
        data = reader.good.decode().replace(said, lie, 1).encode()
        assert fuzz_readers.tried(reader, "lie", data, reader.place, fuzz_readers.Tally()), lie
    fuzz_grammar.put(reader.place, reader.good)


BROKEN = {  # reader, check taken away (a name of the package), what stands in for it, the word of the failures
    "seal": ("pull_vectors", "files.artifacts.check_seal", NOTHING, "other content"),
    "seal of a GGUF": ("from_gguf, ours", "vectors.interchange.check_seal", NOTHING, "other content"),
    "meaning of vectors": ("EmotionVectors", "vectors.emotion_vectors._check", NOTHING, "natural is"),
    "finite directions": ("from_gguf, foreign", "vectors.interchange._check_directions", NOTHING, "not finite"),
    "checksum of a record": ("Journal", "files.journal._whole", lambda *_: True, "does not hold"),
    "one meaning of JSON": ("manifest_of", "files.read._DECODER", json.JSONDecoder(), "cannot be read"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_fuzz_finds_wrong_values_where_a_check_is_taken_away(what, readers, monkeypatch):
    name, check, instead, word = BROKEN[what]
    assert not any(word in f for f in failures(readers, name, 100))
    monkeypatch.setattr(f"lens_emotion.{check}", instead)
    assert any(word in f for f in failures(readers, name, 100))


def test_the_fuzz_finds_a_reader_that_waits_for_a_fifo_and_one_that_reads_a_device(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_readers, "LONGEST", 0.1)
    monkeypatch.setattr(fuzz_readers, "ODDLY", 1.0)
    monkeypatch.setattr(fuzz_readers, "ODD", ("fifo",))
    waiting = Reader("waiting", b"a", lambda path: path.read_bytes(), lambda *_: True)
    assert all("hang" in f for f in fuzz_readers.fuzz(waiting, 2, 0, tmp_path).failures)
    monkeypatch.setattr(fuzz_readers, "ODD", ("device",))
    reading = Reader("reading", b"a", lambda path: path.open("rb").read(9), lambda *_: True)
    assert "what is no file" in fuzz_readers.fuzz(reading, 1, 0, tmp_path).failures[0]


def test_the_fuzz_finds_crashes_hangs_and_memory(tmp_path, monkeypatch):
    def crashing(path):
        return 1 // (path.read_bytes()[0] - ord("a"))

    def hanging(path):
        try:
            while path.read_bytes() != b"a":
                pass
        except Exception:
            return None

    def greedy(path):
        return len(b"x" * (60 * 2**20) if path.read_bytes() == b"b" else b"")

    monkeypatch.setattr(fuzz_readers, "ODDLY", 0.0)
    monkeypatch.setattr(fuzz_readers, "MOST", 30 * 2**20)
    monkeypatch.setattr(fuzz_readers, "BYTES", (lambda rng, good: rng.choice((b"a", b"b")),))
    for read, word in ((crashing, "crash: ZeroDivisionError"), (hanging, "hang"), (greedy, "memory: 6")):
        monkeypatch.setattr(fuzz_readers, "LONGEST", 0.1 if read is hanging else 10.0)
        tally = fuzz_readers.fuzz(Reader(read.__name__, b"a", read, lambda *_: True), 6, 0, tmp_path)
        assert tally.failures and tally.right and all(word in f for f in tally.failures)


def test_a_failing_input_is_kept_and_replayed(readers, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lens_emotion.vectors.interchange._check_directions", NOTHING)
    arguments = ["--inputs", "60", "--only", "foreign", "--keep", str(tmp_path / "kept")]
    monkeypatch.setattr(fuzz_readers, "all_readers", lambda _: readers)
    assert fuzz_readers.main(arguments) == 1
    kept = sorted((tmp_path / "kept").iterdir())
    assert kept and all(fuzz_readers.main(["--replay", str(file)]) == 1 for file in kept[:3])
    monkeypatch.undo()
    monkeypatch.setattr(fuzz_readers, "all_readers", lambda _: readers)
    assert fuzz_readers.main(["--replay", str(kept[0])]) == 0
    assert "a typed error" in capsys.readouterr().out


def test_inputs_depend_on_the_seed_alone_and_lies_are_valid(readers):
    for reader in readers:
        assert fuzz_readers.drawn(reader, 7, 3) == fuzz_readers.drawn(reader, 7, 3)
    assert len({fuzz_readers.drawn(readers[0], i, 3)[1] for i in range(20)}) == 20
    text = fuzz_grammar.sealed_text('{"a": 1}', {}, lambda data, _: str(data["a"]))
    assert json.loads(text) == {"a": 1, "sha256": "1"}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[1e999, Infinity]"])
def test_what_json_says_is_read_strictly_by_the_judge(text):
    with pytest.raises(ValueError, match=r"twice|no JSON"):
        fuzz_grammar.told(text)


def test_odd_files_are_laid_and_cleared(tmp_path):
    place = tmp_path / "file"
    for kind in fuzz_grammar.ODD:
        fuzz_grammar.put(place, fuzz_grammar.odd(kind))
        assert place.is_symlink() or place.exists()
    fuzz_grammar.put(place, b"good")
    assert place.read_bytes() == b"good"
    fuzz_grammar.clear(place)
    assert not list(tmp_path.iterdir())
