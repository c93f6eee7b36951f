"""Files that commands write: what another command wrote, or the user, is not replaced unless that is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import check_mine, save_anew, write_tensors
from lens_emotion.report.gallery import HEAD, INDEX, FiguresError, check_gallery, check_set
from lens_emotion.run.store import Store

EXTRACT = ["extract", "tiny-llama", "--out", "out", "--stimuli", "world-en"]
IMPORT = ["vectors", "import", "calm.gguf", "--model", "tiny-llama", "--out", "out/v.safetensors"]
PULL = ["vectors", "pull", "someone/moods", "--out", "out/v.safetensors"]
FIGURES = ["figures", "run", "--out", "out", "--no-images"]


@pytest.fixture
def run(called, monkeypatch, tmp_path):
    """The command line; whatever takes long fails the test."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "lens_emotion.models.loading.load_model", "lens_emotion.vectors.hub.pull_vectors",
        "lens_emotion.study.stored.read_run",
    ):  # fmt: skip
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("too late"))

    return called


def own(path, kind="EmotionVectors", **header):
    """A file of ours that says so of itself."""
    return write_tensors(path, kind, {"x": torch.zeros(1)}, {"header": header})


THEIRS = {
    "another file": lambda path: path.write_text("of the user"),
    "no artifact": lambda path: path.write_bytes(b"\x08" + bytes(7) + b"{}      "),
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a FIFO": os.mkfifo,
    "of another kind": lambda path: own(path, "Other", model="tiny-llama"),
    "of another model": lambda path: own(path, model="tiny-gpt2"),
}


@pytest.mark.parametrize("what", THEIRS)
@pytest.mark.parametrize(
    ("args", "file"),
    [(EXTRACT, "comprehension_centred.safetensors"), (IMPORT, "v.safetensors"), (PULL, "v.safetensors")],
    ids=["extract", "import", "pull"],
)  # fmt: skip
def test_a_file_that_the_command_did_not_write_is_named_before_any_work(run, args, file, what, tmp_path):
    if args is PULL and what == "of another model":
        pytest.skip("it names none; what was fetched is compared")
    path = tmp_path / "out" / file
    path.parent.mkdir()
    THEIRS[what](path)
    before = path.read_bytes() if path.is_file() else None
    done = run(*args)
    assert done.code == 2 and f"out/{file}" in done.err and "--out" in done.err and done.err.count("\n") == 1
    assert os.path.lexists(path) and (before is None or path.read_bytes() == before)
    assert len(os.listdir(tmp_path / "out")) == 1


def test_its_own_files_may_be_written_again_and_any_where_that_is_said(tmp_path):
    path = own(tmp_path / "v.safetensors", model="m", fingerprint="f")
    check_mine(path, "EmotionVectors", {"model": "m", "fingerprint": "f"})
    with pytest.raises(ArtifactError, match="made of fingerprint f; give another --out, or say --overwrite"):
        check_mine(path, "EmotionVectors", {"model": "m", "fingerprint": "g"})  # another model of the same name
    check_mine(path, "Other", {}, overwrite=True)
    with pytest.raises(ArtifactError, match="no regular file"):
        check_mine("/dev/null", "Other", {}, overwrite=True)
    check_mine(tmp_path / "new", "Other", {})


def test_the_same_bytes_are_written_again_and_others_are_not(tmp_path):
    path = save_anew(lambda p: p.write_text("one"), tmp_path / "f.txt")
    save_anew(lambda p: p.write_text("one"), path)
    with pytest.raises(ArtifactError, match=r"holds something else.*--overwrite"):
        save_anew(lambda p: p.write_text("two"), path)
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["f.txt"]
    assert save_anew(lambda p: p.write_text("two"), path, overwrite=True).read_text() == "two"
    for at in (tmp_path, Path("/dev/null")):
        with pytest.raises(ArtifactError, match="no regular file"):
            save_anew(lambda p: p.write_text("two"), at, overwrite=True)


@pytest.mark.parametrize("form", ["gguf", "steering-vectors"])
def test_an_export_replaces_neither_another_vector_nor_the_file_it_was_made_of(run, vectors, tmp_path, form):
    file = vectors.save(tmp_path / "v.safetensors")
    whole = file.read_bytes()
    export = ("vectors", "export", file, "calm", "--format", form, "--out")
    assert run(*export, "made").code == 0 == run(*export, "made").code
    kept = (tmp_path / "made").read_bytes()
    done = run(*export, "made", "--dose", 2)
    assert done.code == 2 and "--overwrite" in done.err, done.err
    for more in ([file], [file, "--overwrite"]):
        done = run(*export, *more)
        assert done.code == 2 and "is what is being read" in done.err, done.err
    assert file.read_bytes() == whole and (tmp_path / "made").read_bytes() == kept
    assert run(*export, "made", "--dose", 2, "--overwrite").code == 0 and (tmp_path / "made").read_bytes() != kept


@pytest.mark.parametrize("what", ["README.md", "run/notes.txt", "run/index.json", "run", "theirs"])
def test_figures_replace_no_page_and_no_folder_that_is_not_theirs(run, tmp_path, what):
    Store.open(tmp_path / "run").json(
        "manifest.json", {"config": {"models": ["tiny-llama"]}, "models": [{"name": "m"}]}
    )
    out = tmp_path / "out"
    (out / what).parent.mkdir(parents=True)
    held = {"figures": [], "models": ["n"], "made_by": ["lens-emotion study n"]}
    if what == "theirs":  # of another run of the same name
        (out / "run").mkdir()
        (out / "run" / INDEX).write_text(json.dumps(held))
    else:
        (out / what).write_text("of the user")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    done = run(*FIGURES)
    assert done.code == 2 and "--overwrite" in done.err and done.err.count("\n") == 1
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_figures_of_the_same_study_are_drawn_again(tmp_path):
    (tmp_path / "set").mkdir()
    check_set(tmp_path / "set", ["m"], ["study m"])
    (tmp_path / "set" / INDEX).write_text(json.dumps({"figures": [], "models": ["m"], "made_by": ["study m"]}))
    check_set(tmp_path / "set", ["m"], ["study m"])
    with pytest.raises(FiguresError, match="the figures of m"):
        check_set(tmp_path / "set", ["m"], ["study m --seed 1"])
    check_gallery(tmp_path)
    (tmp_path / "README.md").write_text(f"{HEAD}\n- a set\n")
    check_gallery(tmp_path)
