"""The run folder under bad luck: full disks, damage, kills, two writers. What was computed before is never lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny

from lens_emotion.errors import ArtifactError, OutOfMemoryError
from lens_emotion.extraction import reader
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_poolings
from lens_emotion.extraction.pooling import last_token, story_mean
from lens_emotion.files import artifacts, checksums, journal
from lens_emotion.files.artifacts import atomic_write
from lens_emotion.run import store as step_store
from lens_emotion.run.lock import RunLockedError, writing
from lens_emotion.run.look import verify_run
from lens_emotion.run.store import Store
from lens_emotion.stimuli.library import load_stimuli

INPUTS = {"step": "comprehension", "settings": 1}
POOLINGS = {"story_mean": story_mean(), "last_token": last_token()}


def read(store, inputs=INPUTS, ran=None):
    """A small step as a study has it: a few batches, two files."""
    texts = load_stimuli("world-en", per_cell=1).only(["calm", "angry"])

    def run(journal):
        if ran is not None:
            ran.append(len(journal.places))
        return extract_poolings(tiny(), list(POOLINGS.values()), texts, token_budget=400, journal=journal)

    def save(found, folder):
        for name, acts in zip(POOLINGS, found, strict=True):
            acts.save(folder / f"{name}.safetensors")

    def load(folder):
        return [PooledActivations.load(folder / f"{name}.safetensors") for name in POOLINGS]

    return store.step("comprehension", inputs, load, run, save)


@pytest.fixture
def run(tmp_path):
    """A run folder with one stored step and one table."""
    store = Store.open(tmp_path / "run")
    store.json("manifest.json", {"config": {}})
    model = store.model("m")
    read(model)
    model.write("tables/t.csv", "a,b\n1,2\n")
    return store.root


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "step.json"} | {
        "SHA256SUMS": b""
    }


def failing_at(monkeypatch, k, number=errno.ENOSPC):
    """Let the k-th write take half of its data, then find the disk full."""
    original, calls = artifacts.put, []

    def put(descriptor, data, sync=True):
        calls.append(1)
        if len(calls) == k:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(number, os.strerror(number))
        original(descriptor, data, sync)

    for module in (artifacts, journal):
        monkeypatch.setattr(module, "put", put)
    return calls


def test_a_disk_that_fills_up_at_any_write_loses_nothing_and_the_step_goes_on(run, tmp_path, monkeypatch):
    wanted = content(run / "m" / "comprehension")
    calls = failing_at(monkeypatch, 0)
    read(Store.open(tmp_path / "whole").model("m"))
    monkeypatch.undo()
    n_writes = len(calls)
    assert n_writes >= 8
    batches = []
    for k in range(2, n_writes + 1):  # the first is the probe of the folder
        folder = tmp_path / f"run-{k}"
        with monkeypatch.context() as full:
            failing_at(full, k)
            with pytest.raises(ArtifactError, match=r"cannot write .*No space left.*free space"):
                read(Store.open(folder).model("m"))
        assert not (folder / "m" / "comprehension").exists() and not list(folder.rglob("*.tmp"))
        read(Store.open(folder).model("m"), ran=batches)
        assert content(folder / "m" / "comprehension") == wanted
        assert not list(folder.rglob(".partial"))
    # every batch before the failure was read back; the last failures come when all batches are done
    assert batches == sorted(batches) and batches[0] == 0 and batches.count(batches[-1]) >= 4


@pytest.mark.parametrize("k", [1, 3])
def test_memory_that_runs_out_in_a_batch_costs_that_batch_and_the_step_ends_with_the_same_bytes(
    run, tmp_path, monkeypatch, k
):
    original, calls, ran = reader.pad, [], []

    def pad(rows, fill):
        calls.append(1)
        if len(calls) > 2 * k - 2:  # tokens and mask of the k-th batch, and of all after it
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes.")
        return original(rows, fill)

    monkeypatch.setattr(reader, "pad", pad)
    with pytest.raises(OutOfMemoryError, match=r"while reading texts \(\d+ in a batch\): 1.0 GiB were asked for"):
        read(Store.open(tmp_path / "again").model("m"))
    monkeypatch.undo()
    read(Store.open(tmp_path / "again").model("m"), ran=ran)
    assert ran == [k - 1]  # batches that were read back
    assert content(tmp_path / "again" / "m" / "comprehension") == content(run / "m" / "comprehension")


def test_a_sound_step_stays_in_its_place_when_memory_runs_out_while_it_is_read_back(run, monkeypatch):
    before = content(run / "m")

    def load(path):
        raise ArtifactError(f"{path} is truncated or corrupt") from OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as short:
        short.setattr(PooledActivations, "load", load)
        with pytest.raises(ArtifactError):
            read(Store.open(run).model("m"))
    assert content(run / "m") == before and not (run / "m" / ".set_aside").exists()


def test_a_full_disk_while_a_step_is_made_anew_leaves_the_old_one_readable(run, monkeypatch):
    before = content(run / "m" / "comprehension")
    failing_at(monkeypatch, 3)
    with pytest.raises(ArtifactError, match="free space"):
        read(Store(run).model("m"), {"step": "comprehension", "settings": 2})
    monkeypatch.undo()
    assert content(run / "m" / "comprehension") == before and verify_run(run).damages == ()


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no file size limits here")
def test_a_real_limit_of_the_system_is_named_and_nothing_is_lost(run, monkeypatch):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = content(run / "m" / "comprehension")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ArtifactError, match=r"cannot write .*File too large; raise the limit"):
            read(Store(run).model("m"), {"step": "comprehension", "settings": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(run / "m" / "comprehension") == before
    ran = []
    read(Store(run).model("m"), {"step": "comprehension", "settings": 2}, ran)
    assert ran == [0] or ran[0] >= 1
    assert verify_run(run).damages == ()


def test_a_system_that_takes_a_part_at_a_time_gets_it_all(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, bytes(data)[:7]))
    assert atomic_write(tmp_path / "x", "twenty-three characters").read_text() == "twenty-three characters"


def on_a_small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    return folder


def test_a_disk_that_is_really_full_is_named_and_what_fitted_is_kept(tmp_path):
    folder = on_a_small_disk(tmp_path)
    try:
        texts = load_stimuli("world-en").only(["calm", "angry", "sad"])  # 72 texts: 220 kB of journal, then the files
        store = Store.open(folder / "run").model("m")

        def run(journal):
            return extract_poolings(tiny(), list(POOLINGS.values()), texts, token_budget=400, journal=journal)

        def save(found, to):
            found[0].save(to / "a.safetensors")

        with pytest.raises(ArtifactError, match="No space left"):
            store.step("comprehension", INPUTS, lambda f: None, run, save)
        (kept,) = folder.rglob("*.journal")
        assert len(journal.Journal.open(kept).places) >= 2
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_mounted_read_only_is_named_and_what_is_on_it_can_be_verified(tmp_path):
    folder = on_a_small_disk(tmp_path)
    try:
        Store.open(folder).json("manifest.json", {"config": {}})
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with pytest.raises(ArtifactError, match="Read-only file system; choose a folder"), writing(folder):
            pass
        assert verify_run(folder).damages == () and verify_run(folder).n_files == 1
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("file", ["story_mean.safetensors", "last_token.safetensors", "step.json", "SHA256SUMS"])
@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing"])
def test_damage_is_named_set_aside_and_made_again(run, file, harm):
    place = run / "m" / "comprehension"
    wanted, path = content(place), place / file
    whole = path.read_bytes()
    at = len(whole) // 2
    changed = {"flipped": whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :], "truncated": whole[: len(whole) // 3]}
    path.unlink() if harm == "missing" else path.write_bytes(changed[harm])
    named = {str(d.path) for d in verify_run(run).damages}
    assert str(path) in named or (file == "SHA256SUMS" and named)
    said, ran = [], []
    read(Store(run).model("m", said.append), ran=ran)
    assert ran == [0] and len(said) == 1 and (file in said[0] or file == "SHA256SUMS")
    assert content(place) == wanted and verify_run(run).damages == ()
    (aside,) = (run / "m" / ".set_aside").iterdir()
    others = {n for n in wanted if n not in (file, "SHA256SUMS")}
    assert all((aside / n).read_bytes() == wanted[n] for n in others)  # the other files were not touched


def test_every_flipped_byte_of_a_small_table_is_found(run):
    path = run / "m" / "tables" / "t.csv"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert [d.path for d in verify_run(run).damages] == [path]
    path.unlink()
    assert "missing" in str(verify_run(run).damages[0])


def test_coreutils_agree_with_our_checksums(run):
    for folder in (run, run / "m" / "comprehension"):
        done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0 and "t.csv" in done.stdout + "t.csv"


def test_checksums_cannot_name_files_outside_their_folder(tmp_path):
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "run"
    folder.mkdir()
    digest = checksums.sha256_of(tmp_path / "secret")
    (folder / "SHA256SUMS").write_text(f"{digest}  ../secret\n{digest}  {tmp_path}/secret\nnonsense\n")
    noted, wrong = checksums.read_sums(folder)
    assert noted == {} and len(wrong) == 1 and "2 more lines" in str(wrong[0])


def test_a_file_may_be_the_old_or_the_new_one_while_it_is_replaced(tmp_path):
    store = Store(tmp_path)
    store.write("a.csv", "old\n")
    checksums.note(tmp_path, "a.csv", "0" * 64)  # killed between the note and the write
    assert checksums.damages(tmp_path) == []
    store.write("a.csv", "new\n")
    store.close()
    assert checksums.damages(tmp_path) == [] and len((tmp_path / "SHA256SUMS").read_text().splitlines()) == 1


def test_other_inputs_keep_the_old_step_and_going_back_costs_nothing(run):
    model = Store(run).model("m")
    second = {"step": "comprehension", "settings": 2}
    first_key = step_store.read_record(run / "m" / "comprehension").key
    ran = []
    read(model, second, ran)
    assert (run / "m" / ".kept" / f"comprehension-{first_key}" / "story_mean.safetensors").exists()
    read(model, INPUTS, ran)
    read(model, second, ran)
    assert ran == [0] and verify_run(run).damages == ()
    assert len(list((run / "m" / ".kept").iterdir())) == 1


@pytest.mark.parametrize("moment", ["rename 1", "rename 2", "rename 3"])
def test_a_crash_between_the_renames_loses_neither_the_old_step_nor_the_new(run, moment, monkeypatch):
    second = {"step": "comprehension", "settings": 2}
    original, calls = Path.rename, []

    def rename(self, target):
        calls.append(1)
        if len(calls) == int(moment[-1]):
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        read(Store(run).model("m"), second)
    monkeypatch.undo()
    ran = []
    read(Store(run).model("m"), INPUTS, ran)
    assert ran == []
    read(Store(run).model("m"), second, ran)
    assert len(ran) == (moment == "rename 1")
    assert not ran or ran[0] > 0  # and then from its batches


def test_what_a_step_gives_is_what_was_read_back(tmp_path):
    store = Store.open(tmp_path).model("m")

    def load(folder):
        return (folder / "x").read_text()

    fresh = store.step("a", {"k": 1}, load, lambda j: 0.1, lambda r, f: atomic_write(f / "x", f"{r:.0e}"))
    again = store.step("a", {"k": 1}, load, lambda j: pytest.fail("stored"), lambda r, f: None)
    assert fresh == again == "1e-01"


HOLD = """
import sys, time
from lens_emotion.run.lock import writing
with writing(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a run folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_in_words_and_a_killed_one_blocks_nobody(tmp_path, holder):
    with pytest.raises(RunLockedError) as refused, writing(tmp_path):
        pytest.fail("two writers")
    said = json.loads((tmp_path / ".writer.json").read_text())
    for word in (str(holder.pid), said["host"], said["since"], f"kill {holder.pid}", "wait", "another folder"):
        assert word in str(refused.value)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".writer.json").exists()  # left behind, and no obstacle
    with writing(tmp_path), writing(tmp_path):
        assert json.loads((tmp_path / ".writer.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".writer.json").exists()


def test_two_threads_are_two_writers(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def enter():
        with writing(tmp_path):
            return "in"

    with ThreadPoolExecutor(1) as pool:
        with writing(tmp_path), pytest.raises(RunLockedError):
            pool.submit(enter).result()
        assert pool.submit(enter).result() == "in"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_folder_is_named_and_untouched(run):
    before = content(run)
    run.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(ArtifactError, match=r"cannot write .*choose a folder you may write to"), writing(run):
            pass
    finally:
        run.chmod(stat.S_IRWXU)
    assert content(run) == before


def test_a_read_only_disk_is_named(run, monkeypatch):
    failing_at(monkeypatch, 1, errno.EROFS)
    with pytest.raises(ArtifactError, match="Read-only file system; choose a folder"):
        Store.open(run)


def test_verify_says_what_was_left_and_refuses_what_is_no_run(run, tmp_path):
    with pytest.raises(ArtifactError, match="no run folder"):
        verify_run(tmp_path)
    j = step_store.open_journal(run / "m", "steering", "0" * 16)
    j.add("a", journal.Record({}, {"x": torch.ones(1)}))
    found = verify_run(run)
    assert found.damages == () and "not done" in found.notes[0] and found.n_files == 5
