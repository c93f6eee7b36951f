"""Memory that runs out: whoever says so is understood; one line names what was asked for, and how to go on."""

from __future__ import annotations

import errno
import pickle
import sys

import pytest
import torch
from numpy._core._exceptions import _ArrayMemoryError
from safetensors import SafetensorError

import lens_emotion as le
from lens_emotion import memory
from lens_emotion.errors import ArtifactError, ModelUnavailableError, OutOfMemoryError, StimulusError
from lens_emotion.memory import memory_left, on_accelerator, out_of_memory, room_for
from lens_emotion.models.forward import run_halving
from lens_emotion.models.placement import lighter_than

CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 79.11 GiB "
    "of which 3.12 GiB is free."
)
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "21474836480 bytes. Error code 12 (Cannot allocate memory)"
)
SHORT = [
    (CUDA, "20.5 GiB were asked for, 3.12 GiB of the GPU's 79.11 GiB were free"),
    (CPU, "20.0 GiB were asked for"),
    (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB). Tried to allocate 2.00 GiB"), "2.0 GiB were asked"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "accelerator"),
    (RuntimeError("CUDA error: out of memory"), "accelerator"),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 2048 bytes."), "2.0 KiB were asked"),
    (RuntimeError("unable to mmap 1048576 bytes from file </x>: Cannot allocate memory (12)"), "1.0 MiB were asked"),
    (RuntimeError("can't start new thread"), ""),
    (MemoryError(), ""),
    (MemoryError("std::bad_alloc"), ""),
    (_ArrayMemoryError((1024, 1024, 256), torch.zeros(1).numpy().dtype), "1.0 GiB were asked for"),
    (type("ArrowMemoryError", (MemoryError,), {})("malloc of size 1024 failed"), "1.0 KiB were asked for"),
    (SafetensorError("Error while deserializing: I/O error: Cannot allocate memory (os error 12)"), ""),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), ""),
    (OSError("Cannot allocate memory (os error 12)"), ""),
    (Exception("Cannot allocate memory (os error 12)"), ""),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ""),
]
OTHER = [
    RuntimeError("shapes 3 and 4 do not fit"),
    OSError(errno.ENOSPC, "No space left on device"),
    FileNotFoundError(errno.ENOENT, "No such file", "out of memory.txt"),
    FileNotFoundError("no file 'out of memory'"),
    ImportError("dlopen: cannot allocate memory in static TLS block"),
    ValueError("out of memory"),
    StimulusError("the text 'out of memory' is empty"),
    SystemError("error return without exception set"),
    KeyError("cannot allocate memory"),
]


@pytest.mark.parametrize(("error", "words"), SHORT, ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "")
def test_whoever_says_that_memory_ran_out_is_understood(error, words):
    with pytest.raises(OutOfMemoryError) as told, room_for("reading", lambda: "take less", "all is kept"):
        raise error
    said = str(told.value)
    assert said.startswith("out of memory while reading") and said.endswith("; all is kept; take less")
    assert words in said and "\n" not in said
    assert isinstance(told.value, le.LensEmotionError) and isinstance(told.value, MemoryError)


@pytest.mark.parametrize("error", OTHER, ids=lambda e: type(e).__name__)
def test_any_other_error_passes_as_it_is(error, monkeypatch):
    monkeypatch.setattr(memory, "_limit", lambda: None)
    with pytest.raises(type(error)) as told, room_for("reading"):
        raise error
    assert told.value is error and out_of_memory(error) is None


def test_a_library_that_left_no_words_is_believed_under_a_limit(monkeypatch):
    monkeypatch.setattr(memory, "_limit", lambda: 2**32)
    assert out_of_memory(SystemError("error return without exception set")) is not None


def test_what_an_error_came_from_counts():
    """transformers and readers of files say that a file is damaged, which it is not."""
    try:
        try:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        except OSError:
            raise ModelUnavailableError("weights truncated, copy it anew") from None
    except ModelUnavailableError as error:
        assert out_of_memory(error) is not None


def test_doors_in_one_another_fill_in_what_the_inner_one_does_not_know():
    outer, inner = room_for("studying", lambda: "outer", "all is in RUN"), room_for("reading", lambda: "take bfloat16")
    with pytest.raises(OutOfMemoryError) as told, outer, inner:
        raise CUDA
    assert str(told.value) == (
        "out of memory while reading: 20.5 GiB were asked for, 3.12 GiB of the GPU's 79.11 GiB were free; "
        "all is in RUN; take bfloat16"
    )
    again = pickle.loads(pickle.dumps(told.value))  # as it comes from a worker
    assert str(again) == str(told.value)
    assert "no file is left half written" in str(OutOfMemoryError("loading x"))


def test_a_limit_on_address_space_is_named(monkeypatch):
    left, of = memory_left()
    assert left > 0 and "memory" in of
    monkeypatch.setattr(memory, "_limit", lambda: 2**20)
    assert memory_left() == (0.0, "of the limit on address space, 1.0 MiB (ulimit -v)")


def too_large(error):
    def run(rows):
        if len(rows) > 2:
            raise error
        return rows

    return run


@pytest.mark.parametrize("error", [CUDA, *(e for e, words in SHORT if "accelerator" in words)], ids=str)
def test_a_device_runs_halves_and_says_so(error):
    assert on_accelerator(error)
    with pytest.warns(UserWarning, match="runs in halves, and may round otherwise"):
        assert run_halving([1, 2, 3, 4, 5], too_large(error)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("error", [CPU, MemoryError()], ids=str)
def test_a_processor_does_not_so_that_going_on_gives_the_same_bits(error):
    assert not on_accelerator(error)
    with pytest.raises(OutOfMemoryError, match=r"while reading \(5 in a batch\)"):
        run_halving([1, 2, 3, 4, 5], too_large(error), doing="reading")


def test_a_fault_of_the_code_is_not_taken_for_memory():
    with pytest.raises(ZeroDivisionError):
        run_halving([1, 2], lambda rows: 1 / 0)


@pytest.mark.parametrize(
    ("asked", "wanted", "not_wanted"),
    [
        (("auto", "cpu", True), ["dtype bfloat16", "smaller model"], ["quantise", "device"]),
        ((torch.bfloat16, "cpu", True), ["smaller model"], ["dtype", "quantise"]),
        (("auto", "cuda", False), ["device cpu"], ["dtype", "quantise"]),
        (("float32", "cuda:0", True), ["dtype bfloat16", "device cpu"], []),
    ],
)
def test_remedies_are_those_that_help_here(asked, wanted, not_wanted):
    said = lighter_than(*asked)
    assert all(word in said for word in wanted) and not any(word in said for word in not_wanted)


def test_loading_that_does_not_fit_is_no_damaged_folder(monkeypatch):
    from transformers import AutoModelForCausalLM

    def fail(*_, **__):
        raise SafetensorError("Cannot allocate memory (os error 12)")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(OutOfMemoryError, match=r"while loading tiny-gpt2.*half written; raise the limit.*this small"):
        le.load_model("tiny-gpt2", device="cpu")


def test_a_study_that_runs_out_of_memory_says_what_is_kept_and_where(tmp_path, monkeypatch):
    from lens_emotion.study import one_model, pipeline

    def measure(*_, **__):
        raise CPU

    monkeypatch.setattr(pipeline, "check_inputs", lambda *_, **__: None)
    monkeypatch.setattr(one_model, "measure", measure)
    with pytest.raises(OutOfMemoryError) as told:
        pipeline.run_study(le.StudyConfig(models=("tiny-gpt2", "tiny-llama")), tmp_path / "run")
    said = str(told.value)
    assert "while studying" in said and "20.0 GiB were asked for" in said
    assert f"batches are kept in {tmp_path / 'run'}, where the same command goes on" in said
    assert (tmp_path / "run" / "manifest.json").is_file()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux holds a process to its limit")
def test_a_real_limit_is_one_line():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = 1024 * int(memory._line("/proc/self/status", "VmSize"))
    try:
        with pytest.raises(OutOfMemoryError) as told, room_for("reading"):
            resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, hard))
            torch.empty(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert "while reading: 4.0 GiB were asked for" in str(told.value) and "(ulimit -v)" in str(told.value)


def test_a_stored_file_is_not_called_damaged_for_want_of_memory(tmp_path, monkeypatch):
    from lens_emotion.files import checksums

    (tmp_path / "x").write_text("x")
    checksums.write_sums(tmp_path, ["x"])

    def fail(path):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(checksums, "sha256_of", fail)
    with pytest.raises(OSError, match="allocate"):
        checksums.damages(tmp_path)


def test_a_note_that_a_full_disk_cut_short_does_not_swallow_the_next(tmp_path, monkeypatch):
    from lens_emotion.files import artifacts, checksums

    def full(descriptor, data, sync=True):
        artifacts.os.write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    checksums.note(tmp_path, "a", "0" * 64)
    with monkeypatch.context() as short:
        short.setattr(checksums, "put", full)
        with pytest.raises(ArtifactError, match="No space left"):
            checksums.note(tmp_path, "b", "1" * 64)
    checksums.note(tmp_path, "b", "2" * 64)
    assert checksums.read_sums(tmp_path) == ({"a": ["0" * 64], "b": ["2" * 64]}, [])
