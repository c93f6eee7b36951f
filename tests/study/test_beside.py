"""Analyses in a process beside: the results of this one, its errors, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest

from lens_emotion.errors import AnalysisError, OutOfMemoryError
from lens_emotion.study import beside, pipeline
from lens_emotion.study.beside import Analyst, EndedError, analyst
from lens_emotion.study.pipeline import _here

ANSWERS = """
import pickle, sys
while True:
    try:
        sent = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    sys.stdout.buffer.write(pickle.dumps((sent, None) if not isinstance(sent, Exception) else (None, sent)))
    sys.stdout.buffer.flush()
"""


def process(code: str = ANSWERS) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture
def small(monkeypatch, untyped):
    monkeypatch.setattr(beside, "_bytes_of", lambda measured: 0)


class Here:
    """Stands for what was measured: is analysed in this process."""

    def judged(self):
        return os.getpid()


def test_no_process_for_one_model_or_on_one_core(monkeypatch):
    monkeypatch.setattr(beside, "_begun", lambda: pytest.fail("begun"))
    monkeypatch.setattr(beside, "_cores", lambda: 8)
    with analyst(1) as found:
        assert found.process is None
    monkeypatch.setattr(beside, "_cores", lambda: 1)
    with analyst(5) as found:
        assert found.process is None


def test_what_is_sent_comes_back_and_errors_as_they_were(small):
    found = Analyst(process())
    assert found.judged("a").result() == "a"
    for error in (AnalysisError("too few topics"), OutOfMemoryError("analysing a", "2 GiB were asked for")):
        with pytest.raises(type(error), match=str(error)):
            found.judged(error).result()
    assert found.judged("b").result() == "b"
    found.end()
    assert found.process.poll() is not None


def test_a_process_that_ends_is_known_and_the_next_is_analysed_here(small):
    found = Analyst(process("import sys; sys.stdin.buffer.read(1)"))
    with pytest.raises(EndedError):
        found.judged("a" * 10**6).result()
    found.process.wait()
    assert found.judged(Here()).result() == os.getpid()
    found.end()


def test_the_last_and_the_large_are_analysed_here(small, monkeypatch):
    found = Analyst(process())
    assert found.judged(Here(), at_once=True).result() == os.getpid()
    monkeypatch.setattr(beside, "_bytes_of", lambda measured: 2**40)
    assert found.judged(Here()).done()
    found.end()


def test_an_interruption_does_not_wait_for_what_is_analysed(small):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), analyst(1) as found:
        found.process = process("import time; time.sleep(60)")
        future = found.judged("a")
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30 and isinstance(future.exception(), EndedError)


class Places:
    """Two models of which the second cannot be read."""

    def __init__(self, monkeypatch, results):
        self.written = []
        self.results = iter(results)
        monkeypatch.setattr(pipeline, "measure", lambda *_: next(self.results)())
        monkeypatch.setattr(pipeline, "written", lambda found, study, *_: self.written.append(study) or study)


class Waits:
    """An analyst whose answers come when they are asked for."""

    def __init__(self, *_):
        self.futures = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def judged(self, found, at_once=False):
        future = Future()
        if at_once:
            future.set_result(found)
        else:
            future.result = lambda: found
        return future


def studied_of(monkeypatch, results):
    from lens_emotion.run.config import StudyConfig
    from lens_emotion.run.places import Place

    made = Places(monkeypatch, results)
    monkeypatch.setattr(pipeline, "analyst", Waits)
    places = [Place(name, name, "") for name in ("a", "b", "c")[: len(results)]]
    return made, _here(StudyConfig(models=("a",)), places, None, lambda *_: None)


def test_models_come_in_their_order_whoever_is_done_first(monkeypatch, untyped):
    made, outcomes = studied_of(monkeypatch, [lambda: "a", lambda: "b", lambda: "c"])
    assert list(outcomes) == ["a", "b", "c"] == made.written


def test_a_model_that_was_measured_is_written_though_the_next_one_fails(monkeypatch, untyped):
    def fails():
        raise AnalysisError("no such weights")

    made, outcomes = studied_of(monkeypatch, [lambda: "a", fails])
    with pytest.raises(AnalysisError, match="no such weights"):
        list(outcomes)
    assert made.written == ["a"]


@pytest.mark.slow
def test_results_are_those_of_this_process_and_no_script_is_run_again(studied):
    """What the shared study found in this process, from what its folder holds."""
    from lens_emotion.study.one_model import Measured
    from lens_emotion.study.stored import read_run

    stored = read_run(studied.folder)
    (model,) = studied.models
    measured = Measured(stored.models[0].evidence, model.lens, model.atlas, stored.config, time.monotonic())
    with analyst(1) as found:
        found.process = beside._begun()
        again = found.judged(measured).result()
    assert again.table.equals(model.table)
    for mine, other in zip(model.claims, again.claims, strict=True):
        assert pickle.dumps(mine.effect) == pickle.dumps(other.effect) and mine.verdict == other.verdict
