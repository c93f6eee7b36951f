"""Seals and checksums: what was written is read, and nothing else passes for it."""

from __future__ import annotations

import json
import os
from threading import Thread

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lens_emotion.errors import ArtifactError
from lens_emotion.files import checksums
from lens_emotion.files.artifacts import (
    atomic_write,
    check_mine,
    check_seal,
    digest,
    read_tensors,
    sealed,
    write_tensors,
)
from lens_emotion.files.checksums import compact, damages, is_inside, note, read_sums, sha256_of, write_sums

KIND, TENSORS = "Thing", {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


def rewritten(path, meta=None, tensors=None):
    """The file again, with other metadata or tensors under the same seal."""
    with safe_open(str(path), framework="pt") as file:
        held = json.loads(file.metadata()["lens_emotion"])
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    held = {k: v for k, v in (held | (meta or {})).items() if v is not None}
    save_file(found | (tensors or {}), str(path), {"lens_emotion": json.dumps(held)})


FORGED = {
    "another number": ({}, {"a": torch.arange(6.0).reshape(2, 3) + torch.eye(2, 3) * 1e-6}),
    "other metadata": ({"header": {"model": "another"}}, {}),
    "another shape": ({}, {"a": torch.arange(6.0).reshape(3, 2)}),
    "another type": ({}, {"b": torch.ones(2).view(torch.int32)}),
    "the checksum of another": ({"sha256": "0" * 64}, {}),
    "format 2 without a checksum": ({"sha256": None}, {}),
    "format 1 that has one": ({"format": 1}, {}),
    "a newer format": ({"format": 3}, {}),
    "format 0": ({"format": 0, "sha256": None}, {}),
    "a format below 0": ({"format": -1, "sha256": None}, {}),
    "a format in words": ({"format": "2"}, {}),
    "true as a format": ({"format": True, "sha256": None}, {}),
    "another kind": ({"kind": "Other"}, {}),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_file_that_is_not_what_was_written_is_refused(how, tmp_path):
    path = write_tensors(tmp_path / "a.safetensors", KIND, TENSORS, {"header": {"model": "m"}})
    read, meta = read_tensors(path, KIND, ("a", "b"))
    assert meta["header"] == {"model": "m"} and all(torch.equal(read[n], TENSORS[n]) for n in TENSORS)
    rewritten(path, *FORGED[how])
    with pytest.raises(ArtifactError, match=r"a\.safetensors"):
        read_tensors(path, KIND, ("a", "b"))


def test_a_file_of_before_the_checksum_is_read(tmp_path):
    path = write_tensors(tmp_path / "a.safetensors", KIND, TENSORS, {})
    for form in (1, None):  # which format 1 did not name at first
        rewritten(path, {"sha256": None, "format": form})
        assert torch.equal(read_tensors(path, KIND, ("b",))[0]["b"], TENSORS["b"])


def test_a_tensor_more_or_by_another_name_breaks_the_seal():
    meta = sealed({"kind": KIND}, TENSORS)
    check_seal("it", meta, dict(reversed(TENSORS.items())))  # in any order
    for other in (TENSORS | {"c": torch.ones(1)}, {"a": TENSORS["a"]}, {"a": TENSORS["b"], "b": TENSORS["a"]}):
        with pytest.raises(ArtifactError, match="checksum"):
            check_seal("it", meta, other)
    assert digest({"x": "é"}, {}) != digest({"x": "e"}, {}) and len(digest({}, TENSORS)) == 64


def test_what_cannot_be_finished_leaves_the_old_content(tmp_path, monkeypatch):
    path = atomic_write(tmp_path / "a", "old")
    for name in ("fsync", "replace", "write"):
        with monkeypatch.context() as broken:
            broken.setattr(os, name, lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(ArtifactError, match="free space"):
                atomic_write(path, "new")
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"], name
    held = os.stat(path).st_ino
    assert atomic_write(path, "new").read_text() == "new" and os.stat(path).st_ino != held  # never written into


def test_only_what_the_same_command_wrote_may_be_written_over(tmp_path):
    path = write_tensors(tmp_path / "a", KIND, TENSORS, {"header": {"model": "m", "recipe": "centred"}})
    check_mine(path, KIND, {"model": "m"})
    check_mine(tmp_path / "none", KIND, {"model": "m"})
    check_mine(path, "Other", {}, overwrite=True)
    for kind, facts in (
        ("Other", {}),
        (KIND, {"model": "n"}),
        (KIND, {"model": "m", "recipe": "neutral"}),
        (KIND, {"x": 1}),
    ):
        with pytest.raises(ArtifactError, match="--overwrite"):
            check_mine(path, kind, facts)
    with pytest.raises(ArtifactError, match="no regular file"):
        check_mine(tmp_path, KIND, {}, overwrite=True)


# SHA256SUMS.


def test_either_checksum_holds_while_a_file_is_replaced_and_the_last_one_afterwards(tmp_path):
    (tmp_path / "a").write_text("old")
    write_sums(tmp_path, ["a"])
    (tmp_path / "b").write_text("new")
    note(tmp_path, "a", sha256_of(tmp_path / "b"))
    assert damages(tmp_path) == []  # not yet replaced
    (tmp_path / "b").replace(tmp_path / "a")
    assert damages(tmp_path) == []
    compact(tmp_path)
    assert read_sums(tmp_path)[0] == {"a": [sha256_of(tmp_path / "a")]} and damages(tmp_path) == []
    (tmp_path / "a").write_text("old")
    assert [d.what for d in damages(tmp_path)] == ["its checksum is not the one noted when it was written"]
    (tmp_path / "a").unlink()
    assert [d.what for d in damages(tmp_path)] == ["it is missing"]


@pytest.mark.parametrize("name", ["..", "../a", "a/../../b", "a/..", "/a", ""])
def test_a_name_that_may_lead_out_of_its_folder_is_not_inside(name):
    assert not is_inside(name) and is_inside("a") and is_inside("a/b..c")


@pytest.mark.parametrize(
    "line", ["0" * 63 + "  a", "g" * 64 + "  a", "0" * 64 + " a", "0" * 64 + "  ../a", "0" * 64 + "  "]
)
def test_a_line_that_is_no_checksum_is_damage_and_counts_for_nothing(line, tmp_path):
    (tmp_path / "SHA256SUMS").write_text(f"{line}\n" + "1" * 64 + "  b\n" + "2" * 64 + "  cut sho")
    found, wrong = read_sums(tmp_path)
    assert list(found) == ["b"] and len(wrong) == 1 and "line 1 is no checksum" in str(wrong[0])


@pytest.mark.skipif(not checksums.SEVERAL, reason="this system has one process of a study add lines")
def test_a_line_waits_until_another_process_has_added_its_own(tmp_path):
    """Else what the other has begun would be cut away as a line that a full disk cut short."""
    import fcntl

    note(tmp_path, "first.csv", "a" * 64)
    thread = Thread(target=note, args=(tmp_path, "mine.csv", "b" * 64))
    with (tmp_path / "SHA256SUMS").open("ab", buffering=0) as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        theirs.write(b"c" * 30)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        theirs.write(b"c" * 34 + b"  theirs.csv\n")
    thread.join(60)
    assert set(read_sums(tmp_path)[0]) == {"first.csv", "theirs.csv", "mine.csv"}
