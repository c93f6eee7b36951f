"""A study on several workers gives the files of a study in one process, whatever dies on the way."""

from __future__ import annotations

import os
import pickle
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
from threadpoolctl import threadpool_limits

from lens_emotion.errors import ArtifactError, StimulusError
from lens_emotion.errors import OutOfMemoryError as LensOutOfMemory
from lens_emotion.files.checksums import damages
from lens_emotion.run.config import ConfigError, StudyConfig
from lens_emotion.run.look import verify_run
from lens_emotion.run.places import Place
from lens_emotion.run.store import versions
from lens_emotion.study import workers as distribute
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.workers import SURVEY, Job, WorkerError, executor_named, run_part

CONFIG = StudyConfig(
    models=("tiny-llama",), n_permutations=20, doses=(1.0, 6.0), story_tokens=32, jeong_tokens=32, steered_tokens=12
)
BOTH = CONFIG.with_(models=("tiny-llama", "tiny-qwen"))


class Copies:
    """Workers in threads that see only copies of what they are given, as those on other machines do."""

    def __init__(self, fail=lambda name: None):
        self.slots, self.names, self.fail = 2, [], fail
        self.threads = ThreadPoolExecutor(1)  # the models are not made for two threads

    def put(self, value):
        return pickle.dumps(value)

    def submit(self, name, call, *args) -> Future:
        self.names.append(name)
        sent = pickle.dumps((call, args))

        def run():
            self.fail(name)
            call, args = pickle.loads(sent)
            args = [pickle.loads(a) if isinstance(a, bytes) else a for a in args]
            return pickle.loads(pickle.dumps(call(*args)))

        return self.threads.submit(run)

    def cancel(self):
        self.threads.shutdown(cancel_futures=True)


def files_of(folder) -> dict[str, bytes]:
    """Everything that a study measured: tables, activations, stories, steered texts, claims."""
    root = Path(folder)
    wanted = [*root.rglob("*.csv"), *root.rglob("*.safetensors"), *root.glob("*/*/*.json"), root / "claims.json"]
    return {str(p.relative_to(root)): p.read_bytes() for p in wanted if p.name != "step.json"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Ray gives each task one thread; sums of more threads round otherwise, and here every byte is compared."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The study in one process."""
    return files_of(run_study(BOTH, tmp_path_factory.mktemp("here")).folder)


@pytest.mark.long
def test_two_models_on_two_workers_give_the_same_files_as_one_process(here, tmp_path):
    workers, said = Copies(), []
    run = run_study(BOTH, tmp_path / "run", say=lambda model, what: said.append(f"{model}: {what}"), executor=workers)
    assert files_of(run.folder) == here
    assert [m.info.name for m in run.models] == ["tiny-llama", "tiny-qwen"]
    assert not damages(tmp_path / "run") and not verify_run(tmp_path / "run").damages
    for method, parts in (("comprehension", 4), ("generation", 4), ("steering", 1)):
        assert f"tiny-llama:{method}:{parts - 1}" in workers.names
        assert f"tiny-llama: {method}: {parts} of {parts} parts done" in said

    workers = Copies()
    again = run_study(CONFIG, run.folder, executor=workers)  # read back: surveys and the analyses, no part
    assert workers.names == ["tiny-llama:run_part"] * 3 + ["tiny-llama:finish"]
    assert again.models[0].steering.summary() == run.models[0].steering.summary()


@pytest.mark.long
def test_what_came_back_before_an_error_is_not_done_again(here, tmp_path, monkeypatch):
    def fail(name):
        if name == "tiny-llama:generation:1":
            raise StimulusError("the second part fails")

    with pytest.raises(StimulusError, match="the second part"):
        run_study(CONFIG, tmp_path / "run", executor=Copies(fail))
    (journal,) = (tmp_path / "run" / "tiny-llama" / ".partial").glob("generation-*.journal")
    before, longer = journal.read_bytes(), []
    assert before
    original, again = distribute.append, Copies()

    def watched(path, data):
        original(path, data)
        longer.extend([path.read_bytes()] if path == journal else [])

    monkeypatch.setattr(distribute, "append", watched)
    run = run_study(CONFIG, tmp_path / "run", executor=again)
    assert longer and all(content.startswith(before) for content in longer)  # added to, not begun anew
    assert not any(":comprehension:" in name for name in again.names)
    found, wanted = files_of(run.folder), {k: v for k, v in here.items() if k.startswith("tiny-llama")}
    assert {k: found.get(k) == v for k, v in wanted.items()} == dict.fromkeys(wanted, True)


@pytest.mark.long
def test_a_damaged_step_is_set_aside_and_made_again(tmp_path):
    small, said = CONFIG.with_(generation=False, steering=False), []
    run_study(small, tmp_path / "run")
    path = tmp_path / "run" / "tiny-llama" / "comprehension" / "story_mean.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    run_study(small, tmp_path / "run", say=lambda model, what: said.append(what), executor=Copies())
    assert any("damaged, made again" in line for line in said)
    assert path.read_bytes() == whole


def test_a_worker_with_other_packages_takes_no_part():
    job = Job(Place("tiny-llama", "tiny-llama", ""), CONFIG, CONFIG.models, versions() | {"torch": "1.0"})
    with pytest.raises(WorkerError, match=r"packages: torch \S+ here, 1\.0 there; install the same"):
        run_part(job, "comprehension", {}, SURVEY)


@pytest.mark.long
def test_workers_whose_batches_never_fit_are_named_instead_of_asked_for_ever(tmp_path, monkeypatch):
    def other(job, method, files, part):
        found = run_part(job, method, files, part)
        return type(found)(found.missing, {}, found.steps)  # records under other keys come to the same

    monkeypatch.setattr(distribute, "run_part", other)
    monkeypatch.setattr(pickle, "dumps", lambda value: value)
    monkeypatch.setattr(pickle, "loads", lambda value: value)
    with pytest.raises(WorkerError, match="same kind of device"):
        run_study(CONFIG, tmp_path / "run", executor=Copies())


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path):
    from lens_emotion.files.checksums import write_files

    with pytest.raises(ArtifactError, match="leads out of"):
        write_files(tmp_path / "a", {"good": b"", "../bad": b""})
    assert not (tmp_path / "a").exists()


def test_a_step_that_did_not_arrive_whole_is_refused(studied, tmp_path):
    from lens_emotion.files.checksums import read_files
    from lens_emotion.run.store import take_in

    files = read_files(Path(studied.folder, "tiny-llama", "comprehension"), lambda name: True)
    cut = files | {"last_token.safetensors": files["last_token.safetensors"][:-1]}
    with pytest.raises(ArtifactError, match="did not arrive whole"):
        take_in(tmp_path / "other", "comprehension", cut)
    assert take_in(tmp_path / "other", "comprehension", files) == tmp_path / "other" / "comprehension"
    assert not damages(tmp_path / "other" / "comprehension")


@pytest.mark.parametrize(
    ("name", "cause", "words"),
    [
        ("WorkerCrashedError", None, "it was killed, most likely for want of memory"),
        ("OutOfMemoryError", None, "it was killed, most likely for want of memory"),
        ("RayTaskError", MemoryError("unable to allocate 8 GiB"), "8.0 GiB were asked for"),
        ("RayTaskError", LensOutOfMemory("reading", "8 GiB were asked for"), "while reading: 8 GiB were asked for"),
    ],
)
def test_a_worker_that_memory_did_not_suffice_for_is_told_apart(name, cause, words):
    error = type(name, (Exception,), {"cause": cause})("The worker died unexpectedly.")
    said = str(distribute._plain("gpt2:generation:3", error))
    assert said.startswith("out of memory") and words in said
    assert "while reading" in said or ("gpt2:generation:3" in said and "fewer tasks share a machine" in said)
    assert isinstance(distribute._plain("x", type("RayTaskError", (Exception,), {})("a fault")), WorkerError)


def test_executors_are_found_by_name():
    with executor_named("local") as none:
        assert none is None
    with pytest.raises(ConfigError, match="no executor 'slurm'; there are local and ray"), executor_named("slurm"):
        pass
    with pytest.raises(ConfigError, match="with --executor ray"), executor_named("local", gpus=1):
        pass


def test_a_task_that_no_machine_can_run_is_refused():
    from lens_emotion.study.workers import slots

    assert slots({"CPU": 7.0, "GPU": 2.0}, 0.5, 1) == 4
    assert slots({"CPU": 7.0}, 0, 2) == 3
    with pytest.raises(ConfigError, match="asks for 1 CPUs and 1 GPUs, the Ray cluster has 7 CPUs and 0 GPUs"):
        slots({"CPU": 7.0}, 1, 1)


@pytest.fixture
def cluster(monkeypatch):
    """Two machines of one processor each, as Ray sees them, beside one that runs nothing."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [found.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    yield found, nodes
    ray.shutdown()
    found.shutdown()


def workers_at_work() -> list[int]:
    """Processes of Ray that run a part now: Ray names them after their task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::tiny-llama:generation:"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for Ray's workers in /proc")
def test_a_worker_killed_on_a_ray_cluster_costs_nothing_but_its_part(here, tmp_path, cluster):
    killed = []

    def kill_one():
        end = time.monotonic() + 120
        while not killed and time.monotonic() < end:
            for pid in workers_at_work()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.01)

    thread = Thread(target=kill_one)
    with executor_named("ray") as executor:
        assert executor.slots == 2
        job = Job(Place("tiny-llama", "tiny-llama", ""), CONFIG, CONFIG.models, versions() | {"torch": "1.0"})
        with pytest.raises(WorkerError, match="install the same on every machine"):  # a worker's error comes as it is
            executor.submit("refused", run_part, job, "comprehension", {}, SURVEY).result(timeout=120)
        thread.start()
        run = run_study(CONFIG, tmp_path / "run", executor=executor)
    thread.join()
    assert killed
    found, wanted = files_of(run.folder), {k: v for k, v in here.items() if k.startswith("tiny-llama")}
    assert {k: found.get(k) == v for k, v in wanted.items()} == dict.fromkeys(wanted, True)
    assert not verify_run(tmp_path / "run").damages
