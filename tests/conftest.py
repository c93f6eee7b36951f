"""Models for tests: the tiny five on every backend that the installed TransformerLens has, loaded once."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import sys
from functools import cache
from importlib.metadata import version
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LENS_EMOTION_PROGRESS", "0")
# of processes that tests start: with a worker on every core, more only wait
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a study of several models in the process that began it: another one imports for longer than the tiny models take
os.environ.setdefault("LENS_EMOTION_PROCESSES", "1")

import pytest
import typechecker  # noqa: F401 - before the package is

from lens_emotion.models.catalog import TINY

# the process that only shares tests out reads this file too: what takes seconds to import is imported where it is used
TINY_NAMES = tuple(spec.name for spec in TINY)
HAS_HOOKED = int(version("transformer-lens").split(".")[0]) < 4
BACKENDS = ("bridge", "hooked") if HAS_HOOKED else ("bridge",)
needs_hooked = pytest.mark.skipif(not HAS_HOOKED, reason="TransformerLens 4 has no HookedTransformer")


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that no worker is left alone with it; otherwise the order stays."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session):
    """What was imported stays to the end: a look for garbage need not go through it each time, nor the last one."""
    gc.freeze()
    atexit.register(gc.freeze)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tiny models are too small to share between threads."""
    import torch

    torch.set_num_threads(1)


@cache
def tiny(name: str = "tiny-llama", backend: str = "bridge"):
    """A tiny model, shared between tests; tests must leave it as they found it."""
    from lens_emotion.models.loading import load_model

    return load_model(name, backend=backend, device="cpu")


@cache
def plain(name: str):
    """The same model as plain Hugging Face."""
    import torch
    from transformers import AutoModelForCausalLM

    from lens_emotion.models.loading import tiny_folder

    spec = next(s for s in TINY if s.name == name)
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    return AutoModelForCausalLM.from_pretrained(tiny_folder(spec), **options).eval()


@pytest.fixture(params=[(name, backend) for name in TINY_NAMES for backend in BACKENDS], ids="-".join)
def model(request):
    """Every tiny model on every backend."""
    return tiny(*request.param)


@pytest.fixture(params=BACKENDS)
def llama(request):
    """One tiny model on every backend, for laws that do not depend on the architecture."""
    return tiny("tiny-llama", request.param)


@pytest.fixture(scope="session")
def acts():
    """World stories read by tiny-llama, one per emotion and topic."""
    from lens_emotion.extraction.comprehension import extract_comprehension
    from lens_emotion.stimuli.library import load_stimuli

    return extract_comprehension(tiny(), load_stimuli("world-en", per_cell=1))


@pytest.fixture(scope="session")
def vectors(acts):
    from lens_emotion.vectors.recipes import emotion_vectors

    return emotion_vectors(acts)


@pytest.fixture(scope="session")
def results(acts, vectors):
    """One result of every analysis that has a figure."""
    from drawn import results_of

    return results_of(acts, vectors)


@pytest.fixture(scope="session")
def figures(results):
    from lens_emotion import plots

    return {name: getattr(plots, name)(result) for name, result in results.items()}


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Make something once however many workers there are: `once(name, make)` gives each what one's make() returned."""
    from filelock import FileLock

    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name, make):
        """`make` is given a folder, which is not to be changed later."""
        with FileLock(root / f"{name}.lock"):
            if not (kept := root / f"{name}.pickle").exists():
                kept.write_bytes(pickle.dumps(make(root / name)))
        return pickle.loads(kept.read_bytes())

    return made


@pytest.fixture(scope="session")
def studied(once):
    """A small study with every step, run once; its folder is not to be changed."""
    from studies import SMALL

    from lens_emotion.study.pipeline import run_study

    return once("studied", lambda folder: run_study(SMALL, folder, "pytest"))


@pytest.fixture
def called(capsys, monkeypatch):
    """A command in this process: its exit code and what it printed."""
    from lens_emotion.cli.app import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["lens-emotion", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(code=stopped.value.code or 0, out=printed.out, err=printed.err)

    return call


@pytest.fixture
def untyped():
    """Calls as users make them: without the tests' own checker of types."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
