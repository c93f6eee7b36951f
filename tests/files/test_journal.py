"""Journals: what is whole is read back to the bit, what is torn or damaged is left out alone, batches stay the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import BACKENDS, tiny
from steered import EMOTIONS, OTHER, PROMPT, vectors_of

from lens_emotion.errors import ArtifactError
from lens_emotion.extraction import generation, reader
from lens_emotion.extraction.comprehension import extract_poolings
from lens_emotion.extraction.generation import extract_generation
from lens_emotion.extraction.pooling import last_token, story_mean
from lens_emotion.files.journal import (
    Journal,
    Part,
    PartDone,
    Record,
    append,
    are_ids,
    record_bytes,
    remembered_batches,
    scan,
)
from lens_emotion.models.decoding import Sampling
from lens_emotion.steering import generate
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import story_prompts


def three_records(path):
    for k in range(3):
        Journal.open(path).add(f"k{k}", Record({"n": k}, {"x": torch.full((4, 5), float(k) + 1 / 3)}))
    return path.read_bytes()


def test_records_are_read_back_to_the_bit(tmp_path):
    three_records(tmp_path / "a.journal")
    journal = Journal.open(tmp_path / "a.journal")
    for k in range(3):
        record = journal.recall(f"k{k}")
        assert record.values["n"] == k and torch.equal(record.tensors["x"], torch.full((4, 5), float(k) + 1 / 3))
    assert journal.recall("k3") is None and "k3" not in journal


def test_a_flipped_byte_costs_its_own_record_and_no_other(tmp_path):
    path = tmp_path / "a.journal"
    whole = three_records(path)
    size = len(whole) // 3
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = {values["key"] for _, _, values in scan(path)}
        assert found >= {f"k{k}" for k in range(3) if k != min(at // size, 2)}, at
        assert len(found) == 2 or whole[at : at + 1] == b"\n", at  # the newline that ends a block is not covered


def test_every_way_to_cut_a_journal_short_keeps_the_whole_records_and_goes_on(tmp_path):
    path = tmp_path / "a.journal"
    whole = three_records(path)
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        kept = set(Journal.open(path).places)
        Journal.open(path).add("new", Record({}, {"x": torch.ones(2)}))
        assert set(Journal.open(path).places) == {*kept, "new"}
        assert len(kept) >= end // (len(whole) // 3 + 2)


def test_a_record_damaged_after_the_journal_was_opened_is_not_believed(tmp_path):
    path = tmp_path / "a.journal"
    whole = three_records(path)
    journal = Journal.open(path)
    path.write_bytes(whole[:-9] + b"\xff" + whole[-8:])
    assert journal.recall("k2") is None and journal.recall("k1") is not None


def test_time_of_interrupted_sessions_is_counted(tmp_path):
    append(tmp_path / "a.journal", [record_bytes("a", {"seconds": 2.5}), record_bytes("b", {"seconds": 4.0})])
    assert 6.5 <= Journal.open(tmp_path / "a.journal").seconds < 7


def test_an_unreadable_journal_is_an_artifact_error(tmp_path):
    (tmp_path / "a.journal").mkdir()
    with pytest.raises(ArtifactError, match=r"a\.journal"):
        Journal.open(tmp_path / "a.journal")


def stopping_after(monkeypatch, module, name, n):
    """Let a function of a module run n times, then stop the program there."""
    original, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) > n:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_reading_goes_on_bit_identically_and_reads_nothing_twice(backend, tmp_path, monkeypatch):
    model = tiny("tiny-llama", backend)
    texts = load_stimuli("world-en", per_cell=1).only(["calm", "angry", "neutral"])
    poolings = [story_mean(), last_token()]
    whole = extract_poolings(model, poolings, texts, token_budget=300)
    first = stopping_after(monkeypatch, reader, "run_halving", 2)
    with pytest.raises(KeyboardInterrupt):
        extract_poolings(model, poolings, texts, token_budget=300, journal=Journal.open(tmp_path / "j"))
    monkeypatch.undo()
    assert len(Journal.open(tmp_path / "j").places) == 2 and len(first) == 3
    rest = stopping_after(monkeypatch, reader, "run_halving", 999)
    resumed = extract_poolings(model, poolings, texts, token_budget=300, journal=Journal.open(tmp_path / "j"))
    n_batches = len(Journal.open(tmp_path / "j").places)
    assert len(rest) == n_batches - 2 > 0
    for a, b in zip(whole, resumed, strict=True):
        assert torch.equal(a.values, b.values) and torch.equal(a.residual_norm, b.residual_norm)
        assert a.records == b.records and a.header == b.header


@pytest.mark.parametrize("preset", ["topic-crossed", "jeong"])
def test_interrupted_writing_goes_on_bit_identically(preset, tmp_path, monkeypatch):
    model = tiny()
    prompts = [p for p in story_prompts(preset, "world-en") if p.emotion in ("calm", "angry")]
    monkeypatch.setattr(generation, "GENERATION_BUDGET", 160)
    whole = extract_generation(model, prompts, preset=preset, max_new_tokens=16)
    undo = generation.generate_tokens
    calls = stopping_after(monkeypatch, generation, "generate_tokens", 1)
    with pytest.raises(KeyboardInterrupt):
        extract_generation(model, prompts, preset=preset, max_new_tokens=16, journal=Journal.open(tmp_path / "j"))
    monkeypatch.setattr(generation, "generate_tokens", undo)
    assert len(Journal.open(tmp_path / "j").places) == 1 and len(calls) == 2
    journal = Journal.open(tmp_path / "j")
    resumed = extract_generation(model, prompts, preset=preset, max_new_tokens=16, journal=journal)
    assert resumed.stories == whole.stories
    for a, b in ((whole.conditioned, resumed.conditioned), (whole.reread, resumed.reread)):
        assert (a is None) == (b is None)
        assert a is None or (torch.equal(a.values, b.values) and torch.equal(a.residual_norm, b.residual_norm))


def test_equal_prompts_of_other_batches_draw_their_own_stories(tmp_path, monkeypatch):
    model = tiny()
    calm, angry = (next(p for p in story_prompts("topic-crossed", "world-en") if p.emotion == e) for e in EMOTIONS[:2])
    told_twice = [calm, replace(calm, prompt_id="again"), angry]
    monkeypatch.setattr(generation, "GENERATION_BUDGET", 1)  # a batch for every story
    options = {"max_new_tokens": 16, "sampling": Sampling(1.0, 1.0, 0)}
    journal = Journal.open(tmp_path / "j")
    told = extract_generation(model, told_twice, journal=journal, **options).stories.texts
    assert told == extract_generation(model, told_twice, **options).stories.texts
    assert told[0] != told[1]


def test_interrupted_steering_goes_on_with_the_same_batches(tmp_path, monkeypatch):
    model, options = tiny(), {"max_new_tokens": 5, "token_budget": 60}
    calm = vectors_of(model)["calm"]
    conditions = [Condition(p, calm, Dose(d), i) for i, p in enumerate((PROMPT, OTHER)) for d in (0.5, 1.0, 2.0)]
    whole = generate_steered(model, conditions, [3], **options)
    calls = stopping_after(monkeypatch, generate, "generate_tokens", 1)
    with pytest.raises(KeyboardInterrupt):
        generate_steered(model, conditions, [3], journal=Journal.open(tmp_path / "j"), **options)
    monkeypatch.undo()
    assert len(Journal.open(tmp_path / "j").places) == 1 and len(calls) == 2
    seen = stopping_after(monkeypatch, generate, "generate_tokens", 99)
    assert generate_steered(model, conditions, [3], journal=Journal.open(tmp_path / "j"), **options) == whole
    assert len(seen) == len(Journal.open(tmp_path / "j").places) - 1
    other = generate_steered(model, conditions, [2], journal=Journal.open(tmp_path / "j"), **options)
    assert other == generate_steered(model, conditions, [2], **options)  # another layer is another text


def rewritten(path, change):
    """The same journal, its checksums right, each record changed by `change(values, tensors)`."""
    journal = Journal.open(path)
    records = [(key, journal.recall(key)) for key in journal.places]
    path.unlink()
    for key, record in records:
        kept = {k: v for k, v in record.values.items() if k not in ("key", "n_bytes", "sha256")}
        append(path, [record_bytes(key, *change(kept, dict(record.tensors)))])


@pytest.mark.parametrize(
    "head",
    ['"key": 3', '"key": "a", "seconds": "x"', '"key": "a", "seconds": NaN', '"key": "a", "n_bytes": "4"',
     '"key": "a", "n_bytes": -1', '"key": "a", "n_bytes": 1e999', '"key": "a", "n_bytes": null', '"key": []'],
)  # fmt: skip
def test_a_head_of_another_form_is_no_record(head, tmp_path):
    import hashlib

    raw = ("{" + head).encode()
    sealed = raw + f', "sha256": "{hashlib.sha256(raw).hexdigest()}"}}\n'.encode()
    (tmp_path / "j").write_bytes(sealed)
    assert Journal.open(tmp_path / "j").places == {}


@pytest.mark.parametrize("block", [b"no tensors", b"\xff" * 64])
def test_a_whole_record_whose_tensors_are_none_is_not_there(block, tmp_path):
    import hashlib

    raw = json.dumps({"key": "a", "n_bytes": len(block)}).encode()[:-1]
    sealed = raw + f', "sha256": "{hashlib.sha256(raw + block).hexdigest()}"}}\n'.encode() + block + b"\n"
    (tmp_path / "j").write_bytes(sealed)
    journal = Journal.open(tmp_path / "j")
    assert "a" in journal and journal.recall("a") is None


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_journal_that_is_no_file_is_refused_without_waiting(kind, tmp_path):
    import os

    path = tmp_path / "j"
    {"fifo": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"), "folder": path.mkdir}[kind]()
    with pytest.raises(ArtifactError, match="j is a"):
        Journal.open(path)


def test_records_that_do_not_fit_are_made_again_and_said_once(tmp_path):
    path, made = tmp_path / "j", []
    for key in "ab":
        append(path, [record_bytes(key, {"new_ids": [[1], [2]]})])

    def run(batch):
        made.append(batch)
        return Record({"new_ids": [[5]]})

    def fits(batch, record):
        return are_ids(record.values.get("new_ids"), 1, 4, 9)

    for expected in (["a", "b"], ["a", "b"]):  # the second time they are there
        journal = Journal.open(path)
        if made:
            assert [r.values["new_ids"] for _, r in remembered_batches(journal, ["a", "b"], str, run, fits)] == [
                [[5]]
            ] * 2
        else:
            with pytest.warns(UserWarning, match="another form") as said:
                list(remembered_batches(journal, ["a", "b"], str, run, fits))
            assert len(said) == 1
        assert made == expected


BAD_IDS = (None, 3, "x", [], [[1]] * 3, [1, 2], [["1"], ["2"]], [[1.5], [2]], [[True], [1]], [[-1], [1]], [[99], [1]],
           [[1] * 9, [1]], [None, [1]], {"0": [1], "1": [2]})  # fmt: skip


@pytest.mark.parametrize("rows", BAD_IDS, ids=str)
def test_what_are_no_token_ids_of_a_batch(rows):
    assert not are_ids(rows, 2, 8, 50) and are_ids([[], [49]], 2, 8, 50)


CHANGES = {
    "missing": lambda v, t: (v, {}),
    "half the rows": lambda v, t: (v, {k: x[:, : x.shape[1] // 2] for k, x in t.items()}),
    "NaN": lambda v, t: (v, {k: x * float("nan") if x.is_floating_point() else x for k, x in t.items()}),
    "more tokens than there are": lambda v, t: (v, t | {"n_pooled": t["n_pooled"] + 10_000}),
    "counts as numbers": lambda v, t: (v, t | {"n_pooled": t["n_pooled"].float()}),
    "another tensor": lambda v, t: (v, t | {"more": torch.ones(2)}),
    "no norms": lambda v, t: (v, t | {"norms": t["norms"][:0]}),
    "a number": lambda v, t: (v, {k: torch.tensor(1.0) for k in t}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_reading_does_not_use_a_batch_of_another_form(name, tmp_path):
    model, texts = tiny(), load_stimuli("world-en", per_cell=1).only(["calm", "angry", "neutral"])
    options = {"token_budget": 300, "progress": False}
    whole = extract_poolings(model, [story_mean()], texts, journal=Journal.open(tmp_path / "j"), **options)
    rewritten(tmp_path / "j", CHANGES[name])
    with pytest.warns(UserWarning, match="another form"):
        again = extract_poolings(model, [story_mean()], texts, journal=Journal.open(tmp_path / "j"), **options)
    assert torch.equal(whole[0].values, again[0].values) and whole[0].records == again[0].records


@pytest.mark.parametrize("n", [1, 2, 3])
def test_parts_of_a_step_are_done_once_each_and_together_are_the_whole(n, tmp_path):
    """Each of n workers, on a machine of its own, does its share of what the journal lacks."""
    done: list[int] = []

    def run(batch: int) -> Record:
        done.append(batch)
        return Record({"batch": batch})

    def batches(name: str, part: Part | None = None):
        journal = Journal.open(tmp_path / name, part)
        return list(remembered_batches(journal, range(7), str, run, lambda batch, kept: True))

    for index in range(n):
        before = len(done)
        with pytest.raises(PartDone) as stopped:
            batches(f"of-{index}", Part(index, n))
        assert done[before:] == list(range(7))[index::n] and stopped.value.missing == 7
    assert sorted(done) == list(range(7))
    with pytest.raises(PartDone):
        batches("none", Part())  # 0 of 0
    (tmp_path / "whole").write_bytes(b"".join((tmp_path / f"of-{index}").read_bytes() for index in range(n)))
    assert [record.values["batch"] for _, record in batches("whole")] == list(range(7)) and len(done) == 7
    assert len(batches("whole", Part(0, 2))) == 7  # nothing is missing
