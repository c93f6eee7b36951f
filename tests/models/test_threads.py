"""Two threads on one model: reading and writing wait, steering refuses the others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import BACKENDS, tiny
from threadpoolctl import threadpool_info, threadpool_limits

from lens_emotion.errors import ModelBusyError
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode
from lens_emotion.models.threads import one_core, turn
from lens_emotion.stats.gram import over_blocks
from lens_emotion.steering.steer import steer
from lens_emotion.study import one_model


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_that_read_and_write_at_once_get_what_they_get_alone(backend):
    model = tiny("tiny-llama", backend)
    prompts = [encode(model, text) for text in ("Anna smiled at", "Ben walked home and", "In the kitchen")]

    def write(ids):
        return generate_tokens(model, [ids], 12)[0]

    def read(ids):
        return residual_cache(model, torch.tensor([ids]))["blocks.5.hook_resid_post"]

    alone = [write(ids) for ids in prompts], [read(ids) for ids in prompts]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            written, states = [pool.submit(write, ids) for ids in prompts], [pool.submit(read, ids) for ids in prompts]
            assert [w.result() for w in written] == alone[0]
            for state, truth in zip(states, alone[1], strict=True):
                torch.testing.assert_close(state.result(), truth, rtol=0, atol=1e-5)


def test_who_meets_a_steered_model_in_another_thread_is_refused(vectors):
    model, ids = tiny(), torch.tensor([encode(tiny(), "Anna smiled at the cat.")])
    plain = residual_cache(model, ids)["blocks.5.hook_resid_post"]
    with steer(model, vectors["calm"], 3, layers="all"), ThreadPoolExecutor(1) as pool:
        steered = residual_cache(model, ids)["blocks.5.hook_resid_post"]  # its own thread goes on
        with pytest.raises(ModelBusyError, match="MainThread"):
            pool.submit(residual_cache, model, ids).result()
        with pytest.raises(ModelBusyError, match="second time"):
            pool.submit(generate_tokens, model, [ids[0].tolist()], 4).result()
    assert not torch.equal(plain, steered)
    assert torch.equal(residual_cache(model, ids)["blocks.5.hook_resid_post"], plain)


def test_steering_waits_for_a_reader_and_is_let_go_after_an_error(vectors):
    model, held, done = tiny(), threading.Event(), threading.Event()

    def reader():
        with turn(model):
            held.set()
            done.wait(5)

    thread = threading.Thread(target=reader)
    thread.start()
    held.wait(5)
    threading.Timer(0.3, done.set).start()
    with pytest.raises(ZeroDivisionError), steer(model, vectors["calm"], 1):
        assert done.is_set()
        raise ZeroDivisionError
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(generate_tokens, model, [encode(model, "Anna")], 2).result()


def threads_now(_=None):
    """Of PyTorch, and of every BLAS."""
    return {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")}


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(1)


def test_one_core_is_one_thread_of_everything_and_of_threads_begun_inside(two_threads):
    with one_core(), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(threads_now, range(2))) == [{1}, {1}] and threads_now() == {1}
    assert threads_now() == {2}
    with one_core(False):
        assert threads_now() == {2}


def test_labellings_are_shared_out_and_each_thread_has_one_core(two_threads, untyped):
    names, both = set(), threading.Barrier(2, timeout=5)

    def measure(_):
        both.wait()  # fails unless two run at once
        names.add(threading.current_thread().name)
        return np.array([max(threads_now())])

    assert over_blocks(measure, [None, None]).tolist() == [1, 1] and len(names) == 2


@pytest.mark.parametrize(("width", "threads"), [(64, {1}), (576, {2})])
def test_a_small_model_is_analysed_on_one_core(two_threads, monkeypatch, untyped, width, threads):
    monkeypatch.setattr(one_model, "judge_model", threads_now_of)
    evidence = SimpleNamespace(name="a", comprehension=SimpleNamespace(d_model=width))
    assert one_model.Measured(evidence, None, None, None, 0.0).judged() == threads


def threads_now_of(*_):
    return threads_now()
