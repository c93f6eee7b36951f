"""Work shared among processes: the results of this one, its errors, its order, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from threading import Event

import pytest

from lens_emotion.errors import AnalysisError, OutOfMemoryError
from lens_emotion.run.config import ConfigError, StudyConfig
from lens_emotion.run.places import Place
from lens_emotion.study import beside, pipeline
from lens_emotion.study.beside import Crew, Stage, crew, most
from lens_emotion.study.pipeline import _here

ECHO = """
import pickle, struct, sys
while head := sys.stdin.buffer.read(8):
    name, value = pickle.loads(sys.stdin.buffer.read(struct.unpack("<Q", head)[0]))
    done = (None, value) if isinstance(value, Exception) else (value, None)
    for data in map(pickle.dumps, [("say", "there", str(value)), ("done", *done)]):
        sys.stdout.buffer.write(struct.pack("<Q", len(data)) + data)
    sys.stdout.buffer.flush()
"""


def process(code: str = ECHO) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def pid(value, say):
    return os.getpid()


def silent(model, doing):
    return None


ANYWHERE, HERE = Stage(1, pid, lambda value: 0), Stage(1, pid, lambda value: None)


@pytest.fixture
def alone(untyped):
    found = Crew()
    yield found
    found.end()


# How many processes.


@pytest.mark.parametrize(
    ("asked", "cores", "left", "expected"),
    [("", 8, 64e9, 8), ("3", 8, 64e9, 3), ("1", 8, 64e9, 1), ("", 1, 64e9, 1), ("", 8, 5e9, 3), ("9", 2, 64e9, 9)],
)
def test_processes_are_as_asked_or_one_a_core_and_fit_into_memory(monkeypatch, asked, cores, left, expected):
    monkeypatch.setenv("LENS_EMOTION_PROCESSES", asked)
    monkeypatch.setattr(beside, "_cores", lambda: cores)
    monkeypatch.setattr(beside, "memory_left", lambda: (left, "of this machine's memory"))
    assert most() == expected
    monkeypatch.setattr(beside, "memory_left", lambda: None)
    assert most() == (int(asked) if asked else cores)


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5", "²", pytest.param("9" * 5000, id="long")])
def test_a_number_of_processes_that_is_none_is_refused_before_any_begins(monkeypatch, asked):
    monkeypatch.setenv("LENS_EMOTION_PROCESSES", asked)
    monkeypatch.setattr(beside, "_begun", lambda: pytest.fail("begun"))
    with pytest.raises(ConfigError, match="LENS_EMOTION_PROCESSES"), crew(2):
        pass


def test_no_process_for_one_model_or_where_one_is_asked_for(monkeypatch):
    monkeypatch.setattr(beside, "_begun", lambda: pytest.fail("begun"))
    monkeypatch.setenv("LENS_EMOTION_PROCESSES", "8")
    with crew(1) as found:
        assert not found.others
    monkeypatch.setenv("LENS_EMOTION_PROCESSES", "1")
    with crew(5) as found:
        found.grow(5)
        assert not found.others


def test_one_beside_for_large_models_and_more_for_small_ones(monkeypatch):
    monkeypatch.setattr(beside, "_begun", process)
    monkeypatch.setenv("LENS_EMOTION_PROCESSES", "4")
    with crew(9) as found:
        begun = list(found.others)
        assert len(begun) == 1
        found.grow(0)
        assert len(found.others) == 1
        found.grow(9)
        begun = list(found.others)
        assert len(begun) == 3
    assert all(other.poll() is not None for other in begun)


# What comes back.


def test_what_is_sent_comes_back_with_what_was_said_and_errors_as_they_were(alone):
    said = []
    other = process()
    alone.join(other)

    def sent(value):
        return beside._sent(other, print, value, say=lambda model, doing: said.append((model, doing)))

    assert sent("a") == "a" and said == [("there", "a")]
    for error in (AnalysisError("too few topics"), OutOfMemoryError("analysing a", "2 GiB were asked for")):
        with pytest.raises(type(error), match=str(error)):
            sent(error)
    assert sent("b") == "b"


def test_a_process_whose_words_nobody_takes_is_asked_no_more(alone):
    """What it says afterwards would be taken for an answer to the next question."""

    def say(model, doing):
        raise BrokenPipeError("the terminal is gone")

    other = process()
    with pytest.raises(BrokenPipeError):
        beside._sent(other, print, "a", say=say)
    assert other.wait(60) != 0


def test_a_process_that_ends_is_known_and_its_part_is_done_here(alone):
    other = process("import sys; sys.stdin.buffer.read(1)")
    alone.join(other)
    chain = alone.begin(None, (ANYWHERE,), silent)
    assert _until(lambda: other.poll() is not None)  # it was asked, and ended
    assert alone.results(chain) == [os.getpid()]
    assert _until(lambda: not alone.others)


def test_what_cannot_be_sent_is_done_here(alone):
    alone.join(process())
    chains = [alone.begin(Event(), (ANYWHERE,), silent) for _ in range(3)]
    assert [alone.results(c) for c in chains] == [[os.getpid()]] * 3


def test_what_only_this_process_may_do_or_what_is_large_is_done_here(alone, monkeypatch):
    alone.join(process())
    monkeypatch.setattr(beside, "_sent", lambda *_, **__: pytest.fail("sent"))
    large = Stage(1, pid, lambda value: 2**40)
    for stage in (HERE, large):
        assert alone.results(alone.begin(None, (stage,), silent)) == [os.getpid()]


def test_an_interruption_does_not_wait_for_what_is_done_beside(untyped):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), crew(1) as found:
        found.join(process("import time; time.sleep(60)"))
        found.begin("a", (ANYWHERE,), silent)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30


def test_a_process_begins_with_a_list_of_threads_and_where_ctrl_c_comes_at_once(monkeypatch):
    """OMP_NUM_THREADS may be a list; until it can ignore Ctrl-C, which is not for it, that is kept back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    monkeypatch.delitem(sys.modules, "torch")
    other = beside._begun()
    try:
        if os.name != "nt":
            other.send_signal(signal.SIGINT)
            assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        with pytest.raises(TypeError, match="divmod"):  # its answer: whom to tell is no number
            beside._sent(other, divmod, 7, say=silent)
    finally:
        other.kill()
        other.wait()


# In which order.


def order_of(found, stages, values, until=-1):
    """What was done in which order where only this process is there: (rank, value)."""
    done = []

    def stage(rank, alone):
        return Stage(
            rank, lambda value, say: done.append((rank, value)) or value, lambda value: None if alone(value) else 0
        )

    made = tuple(stage(rank, alone) for rank, alone in stages)
    chains = [found.begin(value, made, silent) for value in values]
    for chain in chains if until == -1 else [chains[until]]:
        found.results(chain)
    return done


def test_alone_one_model_is_finished_before_the_next_is_begun(alone):
    done = order_of(alone, [(0, lambda v: False), (1, lambda v: False)], "abc")
    assert done == [(0, "a"), (1, "a"), (0, "b"), (1, "b"), (0, "c"), (1, "c")]


def nobody(alone):
    """Somebody is there beside, and takes nothing."""
    alone.others.append(process())
    return alone


def test_beside_others_all_are_begun_first(alone):
    done = order_of(nobody(alone), [(0, lambda v: False), (1, lambda v: False)], "abc")
    assert done == [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")]


def test_what_only_this_one_may_do_goes_first_that_which_was_begun_before_a_beginning(alone):
    done = order_of(nobody(alone), [(0, lambda v: v in "cd"), (1, lambda v: v == "d")], "abcd")
    assert done[:4] == [(0, "c"), (0, "d"), (1, "d"), (0, "a")]


def test_no_more_is_measured_than_fits_into_memory(alone):
    done = []
    stages = (
        Stage(0, lambda value, say: done.append((0, value)) or value, lambda value: 0),
        Stage(1, lambda value, say: done.append((1, value)) or value, lambda value: beside.LARGEST * 2 // 3),
    )
    found = nobody(alone)
    for chain in [found.begin(value, stages, silent) for value in "abcd"]:
        found.results(chain)
    waiting, most_waiting = 0, 0
    for rank, _ in done:
        waiting += 1 - 2 * rank
        most_waiting = max(most_waiting, waiting)
    assert most_waiting == 2 and len(done) == 8


def test_nothing_is_begun_after_a_failure_and_what_was_begun_is_finished(alone):
    done = []

    def measured(value, say):
        if value == "b":
            raise AnalysisError("no such weights")
        done.append(value)
        return value

    stages = (Stage(0, measured, lambda value: 0), Stage(1, lambda value, say: done.append(value * 2), lambda value: 0))
    found = nobody(alone)
    chains = [found.begin(value, stages, silent) for value in "abc"]
    found.results(chains[0])
    for chain in chains[1:]:
        with pytest.raises(AnalysisError, match="no such weights"):
            found.results(chain)
    assert done == ["a", "aa"]


def study_of(monkeypatch, measure):
    """Models a to c through the pipeline, by a function in place of measuring them; what was written."""
    written = []
    monkeypatch.setattr(pipeline, "fits_beside", lambda asked, own: False)
    monkeypatch.setattr(pipeline, "written", lambda found, study, *_: written.append(found) or found)
    monkeypatch.setattr(
        pipeline,
        "STAGES",
        (Stage(0, lambda given, say: measure(given[0].name), lambda _: None), Stage(1, pid, lambda _: None)),
    )
    places, told = [Place(name, name, "") for name in "abc"], []
    outcomes = _here(StudyConfig(models=("a",)), places, None, silent, Crew(), lambda study, store: told.append(study))
    return written, outcomes, told


def test_models_come_in_their_order_and_whoever_asks_is_told_of_each(monkeypatch, untyped):
    written, outcomes, told = study_of(monkeypatch, lambda name: name)
    assert list(outcomes) == ["a", "b", "c"] == written and told == [os.getpid()] * 3


@pytest.mark.parametrize(("broken", "kept"), [("a", []), ("b", ["a"]), ("c", ["a", "b"])])
def test_models_that_were_measured_are_written_though_another_fails(monkeypatch, untyped, broken, kept):
    def measure(name):
        if name == broken:
            raise AnalysisError(f"no such weights: {name}")
        return name

    written, outcomes, _ = study_of(monkeypatch, measure)
    with pytest.raises(AnalysisError, match=f"no such weights: {broken}"):
        list(outcomes)
    assert written == kept


# The process itself.


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_process_beside_ends_with_whoever_began_it(tmp_path):
    """Killed, it cannot say good-bye; what it asked for is given up, also in the middle of it."""
    (tmp_path / "asleep.py").write_text(
        "import pathlib, time\ndef asleep(path, say):\n    pathlib.Path(path).touch()\n    time.sleep(600)\n"
    )
    code = (
        "import time\n"
        "from asleep import asleep\n"
        "from lens_emotion.study import beside\n"
        "found = beside._begun()\n"
        f"beside._write(found.stdin, (asleep, {str(tmp_path / 'begun')!r}))\n"
        "print(found.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    child = int(parent.stdout.readline())
    assert _until((tmp_path / "begun").exists) and _alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert _until(lambda: not _alive(child))


def _until(happened, seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


def _alive(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_results_and_cards_are_those_of_this_process_and_no_script_is_run_again(studied):
    """What the shared study found in this process, from what its folder holds."""
    from lens_emotion.report.build import CARD
    from lens_emotion.study.one_model import Measured
    from lens_emotion.study.stored import read_run

    stored = read_run(studied.folder)
    (model,) = studied.models
    measured = Measured(stored.models[0].evidence, model.lens, model.atlas, stored.config, time.monotonic())
    said, given = [], (model, "folder")

    def say(model, doing):
        said.append(doing)

    other = beside._begun()
    try:
        again = beside._sent(other, Measured.judged, measured, say=say)
        card = beside._sent(other, CARD.call, given, say=say)
    finally:
        other.kill()
        other.wait()
    assert said == ["analysing"]
    assert again.table.equals(model.table)
    for mine, theirs in zip(model.claims, again.claims, strict=True):
        assert pickle.dumps(mine.effect) == pickle.dumps(theirs.effect) and mine.verdict == theirs.verdict
    own = CARD.call(given, say)
    assert own.figures == card.figures and own.figures
    for mine, theirs in zip(own.report.sections, card.report.sections, strict=True):
        assert [figure for _, figure, *_ in mine.figures] == [figure for _, figure, *_ in theirs.figures]
        assert (mine.layers and mine.layers.versions) == (theirs.layers and theirs.layers.versions)


@pytest.mark.slow
def test_two_processes_write_what_one_does(tmp_path, monkeypatch):
    """Byte for byte, and both take part."""
    config = StudyConfig(
        models=("tiny-llama", "tiny-gpt2"), emotions=("calm", "angry", "sad"), n_permutations=20, device="cpu",
        generation=False, steering=False, protocol="ours",
    )  # fmt: skip
    sent, real = [], beside._sent

    def counted(other, call, value, *, say):
        sent.append(call.__qualname__)
        return real(other, call, value, say=say)

    monkeypatch.setattr(beside, "_sent", counted)
    found = {}
    for n in ("1", "2"):
        monkeypatch.setenv("LENS_EMOTION_PROCESSES", n)
        root = tmp_path / n
        pipeline.run_study(config, root)
        assert bool(sent) == (n == "2")
        kept = [p for p in root.rglob("*") if p.suffix in (".csv", ".safetensors") or p.name == "claims.json"]
        found[n] = {p.relative_to(root).as_posix(): p.read_bytes() for p in kept}
    assert found["1"] == found["2"] and len(found["1"]) > 20
