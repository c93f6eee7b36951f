"""The playground: what it refuses, what it streams, and that it leaves the model as it was."""

from __future__ import annotations

import html
import json
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from browser import CHROMIUM, browser
from conftest import tiny
from served import served
from starlette.testclient import TestClient

from lens_emotion.errors import ArtifactError, FingerprintError
from lens_emotion.extraction import kept
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.prompting import decode_text, encode
from lens_emotion.models.sampling import Sampling
from lens_emotion.play import launch
from lens_emotion.play.asks import MAX_BODY, MAX_CHARACTERS
from lens_emotion.play.server import STATIC, make_app
from lens_emotion.play.session import session_of
from lens_emotion.steering.steer import steer
from lens_emotion.vectors.emotion_vectors import random_like

PORT = 8765
PROMPT = "That morning Anna was in the kitchen. She"
ASK = {
    "prompt": PROMPT, "mix": {"angry": 1, "calm": -0.5}, "dose": 3, "first_layer": 2, "last_layer": 3, "tokens": 16,
    "temperature": 0.9, "seed": 5, "control": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def session(vectors, acts):
    return session_of(tiny(), vectors, acts)


@pytest.fixture(scope="module")
def client(session):
    return TestClient(make_app(session, PORT), base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False)


def hooks_of(model) -> int:
    return sum(len(point.fwd_hooks) for point in model.hook_dict.values())


def events(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1:1", "127.0.0.1", ""])
def test_another_host_header_is_refused(client, host):
    for path in ("/", "/api/model", "/static/app.js", "/api/vector"):
        assert client.get(path, headers={"Host": host}).status_code == 403, path


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"http://127.0.0.1:{PORT + 1}", f"https://127.0.0.1:{PORT}"]
)
def test_a_page_of_another_origin_is_refused(client, origin):
    for path in ("run", "stop", "doses", "seeds", "vector", "tokens"):
        assert client.post(f"/api/{path}", json=ASK, headers={"Origin": origin}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_its_own_page_is_served_under_a_strict_policy(client):
    own = {"Origin": f"http://localhost:{PORT}", "Host": f"localhost:{PORT}"}
    for path in ("/", "/static/app.js", "/api/model", "/nothing"):
        answer = client.get(path, headers=own)
        assert answer.status_code == (404 if path == "/nothing" else 200)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_oversized_requests_are_refused_with_words_the_page_can_show(client):
    large = client.post("/api/run", json=ASK | {"prompt": "x" * MAX_BODY})
    assert (large.status_code, "64 KiB" in large.json()["error"]) == (413, True)
    long = client.post("/api/run", json=ASK | {"prompt": "x" * (MAX_CHARACTERS + 1)})
    assert (long.status_code, "8,000 at most" in long.json()["error"]) == (400, True)
    context = client.post("/api/run", json=ASK | {"prompt": "Anna was calm. " * 100})
    assert (context.status_code, "does not fit into the context of 256" in context.json()["error"]) == (400, True)
    assert client.post("/api/tokens", json={"text": "x" * MAX_BODY, "emotions": ["calm"]}).status_code == 413


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"mix": {"clam": 1}}, "mix", "no vector for 'clam'"),
        ({"mix": {}}, "mix", "no emotion chosen"),
        ({"mix": {"calm": 0}}, "mix", "weight other than 0"),
        ({"mix": {"calm": "1"}}, "mix", "give a number"),
        ({"mix": {f"e{i}": 1 for i in range(9)}}, "mix", "8 at most"),
        ({"dose": 1e9}, "dose", "dose is 1e+09"),
        ({"dose": True}, "dose", "give a number"),
        ({"last_layer": 6}, "layers", "no layer 6: the model has layers 0 to 5"),
        ({"first_layer": -1}, "first_layer", "give a number from 0"),
        ({"prompt": "  "}, "prompt", "the prompt is empty"),
        ({"prompt": "Anna was calm. " * 100}, "prompt", "does not fit into the context of 256"),
        ({"unit": "pounds"}, "unit", "unit is 'pounds'"),
        ({"tokens": 2.5}, "tokens", "whole number"),
        ({"temperature": 9}, "temperature", "from 0 to 2"),
        ({"seed": -1}, "seed", "from 0"),
        ({"positions": "odd"}, "positions", "positions is 'odd'"),
        ({"test": 1}, "test", "neither true nor false"),
        ({"chat": True}, "chat", "no chat template"),
        ({"doze": 1}, None, "no field 'doze'"),
    ],
)
def test_a_request_that_makes_no_sense_is_a_400_that_says_why_and_which_field(client, change, field, words):
    for path in ("run", "doses", "seeds"):
        answer = client.post(f"/api/{path}", json=ASK | change)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
        assert answer.json().get("field") == field


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"prompt": NaN, "mix"', b"[" * 50_000])
def test_a_body_that_is_no_object_is_refused(client, body):
    answer = client.post("/api/run", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]
    assert client.post("/api/run", content=body, headers={"Content-Type": "text/plain"}).status_code == 415


def test_the_stream_is_what_steer_and_generate_write_with_the_same_seed(client, session):
    model, vectors, seen = session.model, session.vectors, events(client.post("/api/run", json=ASK))
    mix = vectors["angry"] - 0.5 * vectors["calm"]

    def alone(vector) -> str:
        with steer(model, vector or mix, 3 if vector else 0, layers=(2, 3)):
            return decode_text(model, generate_tokens(model, [encode(model, PROMPT)], 16, Sampling(0.9, 0.95, 5))[0])

    expected = {"unsteered": alone(None), "steered": alone(mix), "random": alone(random_like(vectors, mix, 5))}
    assert [e["type"] for e in seen] == ["start", *["grow"] * 16, "texts", "verdict"]
    assert seen[-2]["texts"] == expected
    assert seen[-3]["texts"] == expected
    assert len(set(expected.values())) == 3


def test_the_verdict_says_that_it_is_from_one_text_and_has_its_control(client):
    one = events(client.post("/api/run", json=ASK))[-1]
    assert "from one text" in one["summary"]
    assert "one random direction" in one["summary"]
    assert one["p"] is None
    bare = events(client.post("/api/run", json=ASK | {"control": False}))[-1]
    assert "no control" in bare["summary"]
    assert bare["regime"] != "surgical"
    tested = events(client.post("/api/run", json=ASK | {"test": True}))[-1]
    assert len(tested["nulls"]) == 19
    assert 0.05 <= tested["p"] <= 1
    idle = events(client.post("/api/run", json=ASK | {"dose": 0}))[-1]
    assert idle["regime"] == "inert"
    burst = events(client.post("/api/run", json=ASK | {"dose": 60}))[-1]
    assert burst["regime"] == "explosive"


def test_token_scores_of_a_text_are_those_of_the_library(client, session):
    from lens_emotion.analysis.tokens import token_scores

    asked = {"text": "Anna was calm.", "emotions": ["calm", "angry"], "layer": 4}
    told = client.post("/api/tokens", json=asked).json()
    read = token_scores(session.model, session.vectors, "Anna was calm.", ("calm", "angry"), 4, session.acts)
    assert told["tokens"] == list(read.tokens)
    shown = [row["scores"] for row in told["emotions"]]
    assert [[x is None for x in row] for row in shown] == [(~read.content).tolist()] * 2
    assert shown[1][2] == pytest.approx(read.scores[1, 2])
    for field, wrong in (("emotions", ["clam"]), ("layer", 9), ("text", ""), ("emotions", []), ("text", "Anna " * 400)):
        answer = client.post("/api/tokens", json=asked | {field: wrong})
        assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_explorer_play_and_the_analysis_say_the_same_of_a_text(vectors, acts, tmp_path, monkeypatch):
    """Whoever gives no texts is compared with the model's own: one null, wherever a token is scored."""
    pytest.importorskip("ipywidgets")
    from lens_emotion.analysis.tokens import token_scores
    from lens_emotion.play.explorer import explorer
    from lens_emotion.play.session import Look, look

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kept, "extract_comprehension", lambda _: acts)
    text, path = "Anna was so angry that she cried and ran home.", vectors.save(tmp_path / "v.safetensors")
    made = explorer(tiny(), vectors)
    made.inputs["prompt"].value, made.inputs["emotion"].value, made.inputs["layer"].value = text, "angry", 3
    made.read.click()
    of_page = look(launch.open_session(tiny(), path, say=lambda _: None), Look(text, ("angry",), 3))
    said = token_scores(tiny(), vectors, text, ["angry"], 3, acts).summary()
    assert of_page["summary"] == said and "matched random" in said
    row = of_page["emotions"][0]
    beyond = sum(p is not None and p <= 0.05 and score > 0 for p, score in zip(row["p"], row["scores"], strict=True))
    assert made.heat.value.count("border-bottom") == beyond
    counted = f"{beyond} of {sum(of_page['content'])} tokens lie beyond chance"
    assert (counted if beyond else "no token: not distinguishable from noise") in said
    assert html.escape(said) in made.heat.value


def test_real_models_are_sampled_at_first_and_the_tiny_ones_are_not(session, monkeypatch):
    from lens_emotion.play import session as home

    assert home.facts(session)["temperature"] == 0
    monkeypatch.setattr(home, "row_of", lambda model: None)
    assert home.facts(session)["temperature"] == 0.8


def start_run(port: int, **change) -> socket.socket:
    """A raw client that has seen the first token."""
    body = json.dumps(ASK | {"tokens": 200} | change).encode()
    head = f"POST /api/run HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    raw = socket.create_connection(("127.0.0.1", port), timeout=120)
    raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    got = b""
    while b'"grow"' not in got:
        part = raw.recv(4096)
        got += part
        assert part and b"error" not in got, got
    return raw


def test_hooks_are_gone_when_the_client_leaves_mid_stream(session, monkeypatch):
    from lens_emotion.play import session as home

    steps, shown = [], home._shown

    def slow(model, ids):
        steps.append(hooks_of(session.model))
        time.sleep(0.02)
        return shown(model, ids)

    monkeypatch.setattr(home, "_shown", slow)
    with served(session) as up:
        start_run(up.port, temperature=1.5).close()
        with session.turns.wait():
            assert hooks_of(session.model) == 0
    assert min(steps) > 0, "hooks were in place while writing"
    assert len(steps) < 3 * 100, "the writing ended early"


def test_a_newer_run_takes_the_place_of_the_running_one(session, monkeypatch):
    from lens_emotion.play import session as home

    shown = home._shown
    monkeypatch.setattr(home, "_shown", lambda model, ids: (time.sleep(0.02), shown(model, ids))[1])
    with served(session) as up:
        first = start_run(up.port, temperature=1.5)
        second = start_run(up.port, temperature=1.5)
        rest = b""
        while b'"stopped"' not in rest:
            rest += first.recv(1 << 16)
        second.close()


def test_only_this_machine_can_connect_and_a_taken_port_is_named():
    with launch.open_port(0) as taken:
        host, port = taken.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ArtifactError, match=f"port {port}.*--port"):
            launch.open_port(port)


def test_readings_are_kept_for_the_next_time_and_foreign_vectors_are_refused(tmp_path, vectors, acts, monkeypatch):
    model, said = tiny(), []
    monkeypatch.setattr(kept, "extract_comprehension", lambda _: acts)
    launch.open_session(model, None, tmp_path, said.append)
    monkeypatch.setattr(kept, "extract_comprehension", None)
    again = launch.open_session(model, None, tmp_path, said.append)
    assert again.vectors.directions.equal(vectors.directions)
    (tmp_path / kept.reading_name(model)).write_bytes(b"broken")
    monkeypatch.setattr(kept, "extract_comprehension", lambda _: acts)
    launch.open_session(model, None, tmp_path, said.append)
    assert any("corrupt" in line for line in said)
    path = vectors.save(tmp_path / "v.safetensors")
    monkeypatch.setattr(kept, "extract_comprehension", None)
    assert launch.open_session(model, path, tmp_path, said.append).acts.values.equal(acts.values)
    with pytest.raises(FingerprintError):
        launch.open_session(tiny("tiny-gpt2"), path)


def test_without_the_extra_one_line_names_it():
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'uvicorn' else real(name, *a)\n"
        "from lens_emotion.cli.app import main; sys.argv = ['lens-emotion', 'play', 'tiny-llama']; main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 2
    assert ran.stderr.strip() == 'lens-emotion: the playground needs uvicorn: pip install "lens-emotion[play]"'


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chrome or Chromium")
def test_the_page_in_a_browser(session, tmp_path):
    query = f"?prompt={PROMPT.replace(' ', '+')}&mix=angry&dose=3&tokens=30&run=1&read=1&text=Anna+was+so+angry."
    with served(session) as up, browser(tmp_path) as page:
        page.call("Page.navigate", url=f"http://127.0.0.1:{up.port}/{query}")
        page.until("!!document.querySelector('.badge') && !document.getElementById('heat').hidden")
        with steer(session.model, session.vectors["angry"], 3):
            ids = generate_tokens(session.model, [encode(session.model, PROMPT)], 30)[0]
        assert page.js("document.querySelector('#column-steered .text').textContent") == PROMPT + decode_text(
            session.model, ids
        )
        assert page.js("document.querySelector('#column-steered .badge').textContent") in ("surgical", "inert")
        assert "from one text" in page.js("document.getElementById('status').textContent")
        assert page.js("document.querySelectorAll('#heat-tokens span').length") > 4
        assert page.complaints == []
        assert {address.split("/")[2] for address in page.requests} == {f"127.0.0.1:{up.port}"}

        page.js("byId('dose').value = 14; byId('dose').dispatchEvent(new Event('input')); byId('go').click()")
        page.until("document.querySelector('#column-steered .badge')?.textContent == 'explosive'")
        page.js("byId('prompt').value = 'word '.repeat(5000); byId('go').click()")
        page.until("!!byId('error-prompt')")
        assert "25,000 characters; 8,000 at most" in page.js("byId('error-prompt').textContent")
        for width in (1280, 700, 390):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            assert page.js("document.documentElement.scrollWidth <= innerWidth")


def test_texts_enter_the_page_as_text_only():
    for script in STATIC.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not any(way in text for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("))
