"""What saving in Python may replace: a file of the same kind, as `numpy.save` does, and no other."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from planted import planted

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import save_anew, unwritable, write_tensors
from lens_emotion.vectors.interchange import ControlFile, to_gguf, write_control_file
from lens_emotion.vectors.recipes import emotion_vectors

VECTORS = emotion_vectors(planted().acts)


def as_tensors(path, overwrite=False):
    return write_tensors(path, "EmotionVectors", {"x": torch.zeros(1)}, {}, overwrite)


SAVES = {
    "tensors": as_tensors,
    "vectors": lambda path, overwrite=False: VECTORS.save(path, overwrite),
    "gguf": lambda path, overwrite=False: to_gguf(VECTORS[VECTORS.emotions[0]], path, 1.0, 1, overwrite=overwrite),
}
THEIRS = {
    "a text": lambda path: path.write_text("of the user"),
    "an empty file": lambda path: path.touch(),
    "another kind": lambda path: write_tensors(path, "PooledActivations", {"x": torch.zeros(1)}, {}),
    "a model in GGUF": lambda path: path.write_bytes(b"GGUF" + bytes(100)),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
@pytest.mark.parametrize("theirs", THEIRS.values(), ids=THEIRS)
def test_a_file_of_another_kind_is_replaced_only_where_that_is_said(save, theirs, tmp_path):
    theirs(path := tmp_path / "a.file")
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match=r"a\.file lies there .*overwrite=True"):
        save(path)
    assert path.read_bytes() == before
    assert save(path, overwrite=True).read_bytes() != before
    save(path)  # its own kind


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_a_folder_is_never_written_over(save, tmp_path):
    with pytest.raises(ArtifactError, match="no regular file"):
        save(tmp_path, overwrite=True)


def test_an_error_names_the_file_asked_for_not_the_temporary_one(tmp_path):
    content = ControlFile({0: torch.ones(4)}, "llama")
    with pytest.raises(ArtifactError, match=r"mine\.gguf: llama\.cpp takes no direction") as told:
        save_anew(lambda path: write_control_file(path, content), Path("mine.gguf"))
    assert "tmp" not in str(told.value)


def test_a_limit_on_a_files_size_is_not_told_as_a_full_disk():
    assert "ulimit -f" in str(unwritable("x", OSError(errno.EFBIG, "File too large")))
    assert "free space" in str(unwritable("x", OSError(errno.ENOSPC, "No space left")))
