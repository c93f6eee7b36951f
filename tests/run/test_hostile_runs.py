"""Run folders that are damaged, foreign or lie: one line about each, the others go on, nothing outside is touched."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no part of the package

from benchmarks.fuzz_readers import limit
from benchmarks.hostile_runs import CONFIG, FOREIGN, LOOKS, MODEL, become, good_run, hostile_runs, remove
from lens_emotion.cli import app
from lens_emotion.errors import ArtifactError, LensEmotionError
from lens_emotion.files.checksums import FILE as SUMS
from lens_emotion.files.checksums import write_sums
from lens_emotion.run import look
from lens_emotion.run.lock import WRITER, RunLockedError, writing
from lens_emotion.run.look import Spare, compare_runs, list_runs, spare_in, verify_run
from lens_emotion.run.store import key_of, record_of
from lens_emotion.study import plan
from lens_emotion.study.plan import measured_in, plan_study
from lens_emotion.study.stored import read_run

MANIFEST, STEP, TABLE = "manifest.json", f"{MODEL}/comprehension/step.json", f"{MODEL}/tables/lens.csv"
SLOW = 8  # seconds of the processor, under the run-time type checker: about 2 without


@pytest.fixture(scope="module", autouse=True)
def texts_are_read_once():
    """The tests' run-time type checker looks at every text again, which takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "texts_for", cache(plan.texts_for))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    good = good_run(tmp_path_factory.mktemp("runs") / "good")
    for looked in LOOKS.values():  # what is imported now is not in anybody's time
        looked(good)
    return good


@pytest.fixture
def good(made, tmp_path):
    """A good run that may be changed, alone in its folder."""
    return Path(shutil.copytree(made, tmp_path / "runs" / "good"))


def change(path, *at, value):
    """Another value in a JSON file; the key and the checksums of a step's folder are made to fit it."""
    data = json.loads(path.read_text())
    inner = data
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    if path.name == "step.json" and at[0] == "inputs":
        data["key"] = key_of(data["inputs"])
    path.write_text(json.dumps(data))
    if path.name == "step.json":
        write_sums(path.parent, [p.name for p in path.parent.iterdir() if p.name != SUMS])


def failures(said, run, neighbour):
    """What goes wrong when a folder is looked at in every way."""
    for name, looked in LOOKS.items():
        started = time.process_time()
        try:
            with limit(60):
                found = looked(run)
            if name == "list beside" and not any(r.path.name == neighbour and r.steps_done == 2 for r in found):
                yield f"{name}: the neighbour is not listed ({said})"
        except LensEmotionError as error:
            if not str(error).strip():
                yield f"{name}: an error without words ({said})"
        except BaseException as error:  # also the limit's
            yield f"{name}: {type(error).__name__} {error} ({said})"
        if time.process_time() - started > SLOW:
            yield f"{name}: {time.process_time() - started:.1f} s ({said})"


@pytest.mark.long
def test_30_hostile_runs_are_answered_or_refused_and_their_neighbour_is_listed(good):
    assert [f for said, run in hostile_runs(good, good.parent, 30, seed=0) for f in failures(said, run, "good")] == []


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_is_no_run_is_listed_with_the_reason_and_passed_over(name, good):
    FOREIGN[name](good.parent / "foreign")
    assert list(failures(name, good.parent / "foreign", "good")) == []
    rows = {r.path.name: r for r in list_runs(good.parent)}
    assert MANIFEST in rows["foreign"].unreadable and not rows["good"].unreadable
    planned = plan_study(CONFIG, good.parent / "new")
    assert [s.basis for s in planned.models[0].steps] == [f"measured on {MODEL}"] * 3
    assert len(planned.notes) == 1 and planned.notes[0].startswith("foreign: ")


LIES = {
    "config": [None, [], 3, "x", {"models": 3}, {"models": {"a": 1}}, {"models": None}, {"models": [1]}, {"new": 1},
               {"overrides": []}, {"overrides": {MODEL: 3}}, {"overrides": {MODEL: {"doses": "x"}}}, {"seed": -1}],
    "created": [3, None, [], {}],
    "done": ["yes", 1, []],
    "versions": [3, ["torch"], {"torch": 3}],
    "models": [3, None, "x", [3], [None], [{}], [{"name": 3}], [], [{"name": "a"}, {"name": "b"}]],
    "seconds": ["x", True, []],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in LIES.items() for v in values], ids=str)
def test_a_manifest_of_another_form_is_unreadable_in_words(key, value, good):
    change(good / MANIFEST, key, value=value)
    (row,) = list_runs(good)
    assert MANIFEST in row.unreadable and row.models == ()
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_run(good)
    assert (good / MANIFEST) in {d.path for d in verify_run(good).damages}
    assert str(good / MANIFEST) in compare_runs(good, good).damaged
    assert measured_in([good]) == []


def test_a_manifest_of_before_is_read(good):
    """Of version 0.1: no `done`, fewer settings, dose of another default."""
    data = json.loads((good / MANIFEST).read_text())
    for key in ("jeong", "quantise", "template", "overrides", "prompts", "scenarios"):
        del data["config"][key]
    del data["done"]
    data["config"]["doses"] = [1.0, 2, 12]
    (good / MANIFEST).write_text(json.dumps(data))
    facts = json.loads((good / MODEL / "model.json").read_text())
    del facts["ratings"], facts["info"]["former"], facts["info"]["first_token"], facts["info"]["template"]
    (good / MODEL / "model.json").write_text(json.dumps(facts))
    (row,) = list_runs(good)
    assert (row.unreadable, row.done, row.steps_done, row.steps_total) == ("", True, 2, 3)
    assert len(read_run(good).models) == 1 and len(measured_in([good])) == 2


@pytest.mark.parametrize("seconds", ["x", None, True, -1, float("nan"), float("inf"), 1e300, 10**400, [1], {}], ids=str)
def test_a_step_of_absurd_seconds_is_not_there(seconds, good):
    path = good / STEP
    path.write_text(path.read_text().replace('"seconds": 0.5', f'"seconds": {json.dumps(seconds)}'))
    write_sums(path.parent, [p.name for p in path.parent.iterdir() if p.name != SUMS])
    (row,) = list_runs(good)
    assert (row.steps_done, row.seconds) == (1, 1.5)
    assert [m.step for m in measured_in([good])] == ["generation"]
    assert path in {d.path for d in verify_run(good).damages}


@pytest.mark.parametrize("seconds", [0, 1e-300, 1e-12, 9e8])
def test_an_impossible_speed_is_not_used(seconds, good):
    change(good / STEP, "seconds", value=seconds)
    assert record_of(good / STEP.rpartition("/")[0]).seconds == seconds
    assert [m.step for m in measured_in([good])] == ["generation"]


@pytest.mark.parametrize(
    ("at", "value"),
    [(("model",), v) for v in (None, 3, [], {}, {"fingerprint": 3})] + [(("model", "device"), 3), (("model",), "x")]
    + [(("settings",), v) for v in (None, 3, "x", [1], {"doses": "x"}, {"new": 1}, {"overrides": 3})],
    ids=str,
)  # fmt: skip
def test_inputs_of_another_form_are_nobodys(at, value, good):
    change(good / STEP, "inputs", *at, value=value)
    assert plan_study(CONFIG, good).models[0].steps[0].state == "to run"
    assert "comprehension" not in {m.step for m in measured_in([good])}


def test_a_record_under_another_key_than_its_own_is_not_there(good):
    path = good / STEP
    path.write_text(path.read_text().replace('"backend": "bridge"', '"backend": "hooked"'))
    with pytest.raises(ArtifactError, match="its key"):
        record_of(path.parent)


DAMAGE = {
    "a step is a file": (f"{MODEL}/comprehension", "empty", f"{MODEL}/comprehension"),
    "a step is gone": (f"{MODEL}/comprehension", "missing", f"{MODEL}/comprehension"),
    "a model is gone": (MODEL, "missing", f"{MODEL}/vectors.safetensors"),
    "a model is a file": (MODEL, "binary", f"{MODEL}/generation"),
    "the manifest is gone": (MANIFEST, "missing", MANIFEST),
    "the manifest is deep": (MANIFEST, "deep", MANIFEST),
    "the manifest is a folder": (MANIFEST, "folder", MANIFEST),
    **{f"checksums: {k}": (SUMS, k, SUMS) for k in ("folder", "fifo", "device", "endless", "large", "binary")},
    **{f"a step's record: {k}": (STEP, k, STEP) for k in ("folder", "fifo", "device", "endless", "deep", "missing")},
    **{f"a table: {k}": (TABLE, k, TABLE) for k in ("fifo", "device", "above")},
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_verify_names_every_damage(name, good):
    at, kind, damaged = DAMAGE[name]
    become(good / at, kind)
    with limit(10):
        found = verify_run(good)
    assert good / damaged in {d.path for d in found.damages}, found


def test_verify_says_what_it_could_not_check(good):
    (good / "notes.txt").write_text("mine")
    os.mkfifo(good / MODEL / "pipe")
    change(good / MANIFEST, "config", value=3)
    notes = " ".join(verify_run(good).notes)
    assert "notes.txt" in notes and "pipe" in notes and "whether every step is there" in notes


@pytest.mark.parametrize("left", [0, 3, None], ids=["emptied", "cut", "deleted"])
def test_checksums_that_are_gone_are_damage(left, good):
    """A table that was changed, and its checksum taken away, passed for what was written."""
    lines = (good / SUMS).read_bytes().splitlines(keepends=True)
    (good / MODEL / "tables" / "lens.csv").write_text("hacked")
    (good / SUMS).unlink() if left is None else (good / SUMS).write_bytes(b"".join(lines[:left]))
    assert good / SUMS in {d.path for d in verify_run(good).damages}


@pytest.mark.parametrize("where", ["run", "model", "above"])
def test_a_link_without_end_is_no_fault_of_ours(where, good):
    at = {"run": good.parent / "loop", "model": good / MODEL, "above": good.parent / "loop"}[where]
    if at.exists():
        shutil.rmtree(at)
    at.symlink_to(at.name)
    root = {"run": at, "model": good, "above": at / "x"}[where]
    for looked in (lambda: plan_study(CONFIG, root), lambda: list_runs(good.parent), lambda: read_run(root)):
        with suppress(LensEmotionError):
            looked()


def test_a_million_lines_of_checksums_are_one_damage(good):
    (good / SUMS).write_bytes(b"x\n" * 10**6)
    started = time.process_time()
    assert len([d for d in verify_run(good).damages if d.path == good / SUMS]) == 1
    assert time.process_time() - started < 2


@pytest.mark.parametrize("link", ["model", "part", "item", "item to a file"])
def test_prune_removes_nothing_behind_a_link(link, good, tmp_path):
    outside = tmp_path / "outside"
    if link == "model":
        (good / MODEL).rename(outside)
        (good / MODEL).symlink_to(outside)
    elif link == "part":
        (good / MODEL / ".kept").rename(outside)
        (good / MODEL / ".kept").symlink_to(outside)
    else:
        outside.mkdir()
        (outside / "precious").write_text("x")
        (good / MODEL / ".kept" / "mine").symlink_to(outside / "precious" if "file" in link else outside)
    before = sorted(p for p in outside.rglob("*"))
    look.remove(good, spare_in(good))
    assert sorted(p for p in outside.rglob("*")) == before and before
    assert not (good / MODEL / ".kept" / "mine").is_symlink() and verify_run(good).damages == ()


def test_remove_refuses_what_is_not_the_runs_to_spare(good, tmp_path):
    (tmp_path / "mine").mkdir()
    places = [tmp_path / "mine", good / MODEL / ".kept" / "..", good / MODEL / "tables" / "lens.csv", good / MODEL]
    places.append(good / MODEL / ".kept" / ".." / ".." / ".." / ".." / "mine")
    for path in places:
        with pytest.raises(ArtifactError, match="by hand"):
            look.remove(good, [Spare(path, "", 0)])
        assert path.exists()


@pytest.mark.parametrize(
    "written",
    [
        "null",
        "[",
        '{"pid": -1, "host": "h", "since": "s", "command": "c"}',
        '{"pid": "9", "host": 3}',
        '{"pid": 1}',
        "",
    ],
)
def test_a_damaged_note_on_the_writer_advises_to_end_nobody(written, good):
    with writing(good):
        (good / WRITER).write_text(written)
        said = str(_locked_elsewhere(good))
    assert "another process" in said and "kill" not in said


def _locked_elsewhere(good):
    from lens_emotion.run.lock import _locked

    found = _locked(good)
    assert isinstance(found, RunLockedError)
    return found


def test_a_lock_that_is_a_link_is_not_written_through(good, tmp_path):
    (tmp_path / "precious").write_text("x")
    remove(good / ".lock")
    (good / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ArtifactError, match=r"\.lock"), writing(good):
        pass
    assert (tmp_path / "precious").read_text() == "x"


def test_the_command_line_lists_the_bad_beside_the_good_and_ends_with_0(good, monkeypatch, capsys):
    shutil.copytree(good, good.parent / "new\nline [bold]")
    (good.parent / "new\nline [bold]" / MANIFEST).write_text("[")
    monkeypatch.setattr(sys, "argv", ["lens-emotion", "runs", str(good.parent)])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    printed = capsys.readouterr().out
    assert not stopped.value.code and "good" in printed
    assert [line for line in printed.splitlines() if line.startswith(r"new\nline [bold]  unreadable: ")]
