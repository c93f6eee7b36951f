"""One click, many texts, and files to take along: a sweep over doses, a grid of seeds, vectors as files."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from conftest import tiny
from starlette.testclient import TestClient

from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.prompting import decode_text, encode
from lens_emotion.models.sampling import Sampling
from lens_emotion.play import series
from lens_emotion.play.server import make_app
from lens_emotion.play.session import session_of
from lens_emotion.steering.steer import steer
from lens_emotion.vectors.emotion_vectors import EmotionVectors, mixture, random_like
from lens_emotion.vectors.interchange import from_gguf

PROMPT = "That morning Anna was in the kitchen. She"
ASK = {
    "prompt": PROMPT, "mix": {"angry": 1, "calm": -0.5}, "dose": 3, "unit": "natural", "first_layer": 2,
    "last_layer": 3, "tokens": 8, "temperature": 0.9, "seed": 5,
}  # fmt: skip
TAKE = {name: ASK[name] for name in ("mix", "dose", "unit", "first_layer", "last_layer")}


@pytest.fixture(scope="module")
def session(vectors, acts):
    return session_of(tiny(), vectors, acts)


@pytest.fixture(scope="module")
def client(session):
    return TestClient(make_app(session, 8765), base_url="http://127.0.0.1:8765", raise_server_exceptions=False)


def rows_of(client, path: str, **change) -> dict:
    answer = client.post(path, json=ASK | change)
    assert answer.status_code == 200, answer.text
    seen = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    assert [seen[0]["type"], seen[-1]["type"]] == ["start", "rows"]
    assert {e["type"] for e in seen[1:-1]} <= {"progress", "measuring"}
    return seen[-1]


def alone(session, vector, dose: float, seed: int) -> str:
    with steer(session.model, vector, dose, layers=(2, 3)):
        ids = generate_tokens(session.model, [encode(session.model, PROMPT)], 8, Sampling(0.9, 0.95, seed))
    return decode_text(session.model, ids[0])


def test_a_sweep_writes_at_every_dose_what_steering_at_it_writes(client, session):
    found = rows_of(client, "/api/doses")
    vector = mixture(session.vectors, [(1, "angry"), (-0.5, "calm")])
    assert [row["dose"] for row in found["rows"]] == list(series.DOSES["natural"])
    for row in found["rows"][::4]:
        assert row["text"] == alone(session, vector, row["dose"], 5)
    for row in found["rows"]:
        assert row["random_low"] <= row["random_high"]
        assert row["regime"] != "surgical" or row["reading"] > max(0, row["random_high"])
    assert found["rows"][-1]["regime"] == "explosive" and found["explosive"] > 1
    assert "chance of 1 in 4" in found["summary"]
    assert all(not point.fwd_hooks for point in session.model.hook_dict.values())


def test_a_grid_of_seeds_writes_what_each_seed_writes_beside_its_own_random_direction(client, session):
    found = rows_of(client, "/api/seeds")
    vector = mixture(session.vectors, [(1, "angry"), (-0.5, "calm")])
    assert [row["seed"] for row in found["rows"]] == list(range(5, 13))
    for row in found["rows"][::4]:
        assert row["text"] == row["texts"]["steered"] == alone(session, vector, 3, row["seed"])
        drawn = random_like(session.vectors, vector, row["seed"])
        assert row["texts"]["random"] == alone(session, drawn, 3, row["seed"])
    ahead = sum(row["reading"] > row["random"] for row in found["rows"])
    assert f"in {ahead} of 8 (sign test" in found["summary"]


@pytest.mark.parametrize(("change", "field"), [({"temperature": 0}, "temperature"), ({"seed": 2**31 - 2}, "seed")])
def test_seeds_that_make_no_difference_are_refused(client, change, field):
    answer = client.post("/api/seeds", json=ASK | change)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_a_vector_is_taken_along_as_the_package_writes_it(client, session, tmp_path):
    vector = mixture(session.vectors, [(1, "angry"), (-0.5, "calm")])
    files = {}
    for form in ("safetensors", "gguf"):
        answer = client.post("/api/vector", json=TAKE | {"format": form})
        assert answer.headers["content-disposition"] == f'attachment; filename="angry-0-5-calm.{form}"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        files[form] = tmp_path / f"v.{form}"
        files[form].write_bytes(answer.content)
    back = EmotionVectors.load(files["safetensors"])
    assert back.emotions == (vector.name,) and back.directions[0].equal(vector.direction)
    assert session_of(session.model, back, session.acts).vectors is back
    added = from_gguf(files["gguf"])
    assert [bool(added.direction[k].any()) for k in range(6)] == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mix": {"clam": 1}}, "mix"), ({"mix": {"calm": 0}}, "mix"), ({"format": "pt"}, "format"),
        ({"dose": 0}, "dose"), ({"unit": "relative"}, "dose"), ({"first_layer": 0}, "layers"),
        ({"last_layer": 99}, "layers"), ({"prompt": "x"}, None),
    ],
)  # fmt: skip
def test_a_vector_that_cannot_be_written_is_a_line_beside_its_control(client, change, field):
    answer = client.post("/api/vector", json=TAKE | {"format": "gguf"} | change)
    assert (answer.status_code, answer.json().get("field")) == (400, field)


def test_a_series_ends_when_it_is_told_to(session):
    import threading

    from lens_emotion.play.asks import read_ask
    from lens_emotion.play.session import StoppedError, push_of

    stop, push = threading.Event(), push_of(session, read_ask(json.dumps(ASK).encode()))

    def emit(event) -> None:
        if event["type"] == "start":
            stop.set()

    for writes in (series.sweep_doses, series.write_seeds):
        stop.clear()
        with pytest.raises(StoppedError):
            writes(session, push, emit, stop)
        assert all(not point.fwd_hooks for point in session.model.hook_dict.values())
