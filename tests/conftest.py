"""Models for tests: the tiny five on every backend that the installed TransformerLens has, loaded once."""

from __future__ import annotations

import os
import sys
from functools import cache
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LENS_EMOTION_PROGRESS", "0")
# of processes that tests start: with a worker on every core, more only wait
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from lens_emotion.models import hooked
from lens_emotion.models.catalog import TINY
from lens_emotion.models.loading import load_model, tiny_folder

torch.set_num_threads(1)  # the tiny models are too small to share between threads
TINY_NAMES = tuple(spec.name for spec in TINY)
BACKENDS = ("bridge", "hooked") if hooked.available() else ("bridge",)
needs_hooked = pytest.mark.skipif(not hooked.available(), reason="TransformerLens 4 has no HookedTransformer")


@cache
def tiny(name: str = "tiny-llama", backend: str = "bridge"):
    """A tiny model, shared between tests; tests must leave it as they found it."""
    return load_model(name, backend=backend, device="cpu")


@cache
def plain(name: str):
    """The same model as plain Hugging Face."""
    from transformers import AutoModelForCausalLM

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
