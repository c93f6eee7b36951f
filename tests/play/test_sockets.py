"""The playground against clients that are late, many, gone, or send what no page sends, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from conftest import tiny
from served import served
from starlette.testclient import TestClient

from lens_emotion.play import connections, server
from lens_emotion.play.session import session_of

ASK = {
    "prompt": "Anna", "mix": {"angry": 1}, "dose": 3, "unit": "natural", "first_layer": 2, "last_layer": 3, "tokens": 1,
    "temperature": 0.9, "seed": 5, "positions": "all", "control": False,
}  # fmt: skip
TAKE = {name: ASK[name] for name in ("mix", "dose", "unit", "first_layer", "last_layer")} | {"format": "gguf"}
LOOK = {"text": "Anna was calm.", "emotions": ["calm"], "layer": 4}


@pytest.fixture(scope="module")
def session(vectors, acts):
    return session_of(tiny(), vectors, acts)


def asked(port: int, path: str = "/", body: bytes | None = None, seconds: float = 2.0) -> bytes:
    """The status line of an answer that came within so many seconds."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=seconds)) as raw:
        raw.sendall(request(port, path, body))
        return raw.recv(65536).split(b"\r\n")[0]


def request(port: int, path: str = "/", body: bytes | None = None) -> bytes:
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + (body or b"")


@pytest.mark.parametrize("sent", ["nothing", "half a head", "half a body"])
def test_300_connections_without_a_request_leave_the_page_as_quick(session, sent, capfd):
    with served(session) as up:
        parts = {
            "nothing": b"", "half a head": request(up.port)[:-2],
            "half a body": request(up.port, "/api/tokens", json.dumps(LOOK).encode())[:-5],
        }  # fmt: skip
        raw = []
        for _ in range(300):
            raw.append(socket.create_connection(("127.0.0.1", up.port), timeout=10))
            raw[-1].sendall(parts[sent])
        assert asked(up.port) == b"HTTP/1.1 200 OK"
        assert asked(up.port, "/api/model") == b"HTTP/1.1 200 OK"
        assert len(up.connections) <= connections.MAX_CONNECTIONS
        for one in raw:
            one.close()
    assert capfd.readouterr().err == ""


def _drip(port, raw):
    """A head that never ends; after an answer, a second one."""
    raw.sendall(request(port))
    raw.recv(1 << 20)
    for _ in range(100):
        raw.sendall(b"GET / HTTP/1.1\r\nX: y" if _ == 0 else b"y")
        time.sleep(0.05)


@pytest.mark.parametrize("sent", ["", "GET / HTTP/1.1\r\n", "drip"])
def test_a_connection_without_a_whole_request_ends(session, sent, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with served(session) as up, closing(socket.create_connection(("127.0.0.1", up.port), timeout=5)) as raw:
        with pytest.raises((ConnectionError, EOFError)):
            if sent == "drip":
                _drip(up.port, raw)
            raw.sendall(sent.encode())
            if raw.recv(100) == b"":
                raise EOFError
        assert not up.connections


def test_a_client_that_does_not_read_its_answer_ends(session, monkeypatch):
    monkeypatch.setattr(connections, "TAKE_SECONDS", 0.3)
    monkeypatch.setattr(server, "look", lambda *_: {"x": "y" * (20 << 20)})
    body = json.dumps(LOOK).encode()
    with served(session) as up, closing(socket.create_connection(("127.0.0.1", up.port), timeout=5)) as raw:
        raw.sendall(request(up.port, "/api/tokens", body))
        ends = time.monotonic() + 10
        while not up.connections and time.monotonic() < ends:
            time.sleep(0.01)
        while up.connections and time.monotonic() < ends:
            time.sleep(0.05)
        assert not up.connections


NO_HTTP = {
    "leaves in mid-body": (True, b"", b"x"),
    "no HTTP": (False, b"\x16\x03\x01\xff\r\n\r\n", b""),
    "a method of its own": (False, b"BREW / HTTP/9.9\r\n\r\n", b""),
    "a chunk that is none, behind the answer": (
        False, b"POST /api/run HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n",
    ),
    "an upgrade": (False, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", b""),
    "a head without end": (False, b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000, b""),
    "a length that is none": (False, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b""),
}  # fmt: skip


@pytest.mark.parametrize(("half", "first", "second"), NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_request_writes_nothing_into_the_log(session, half, first, second, capfd, caplog):
    with served(session) as up:
        if half:
            first = request(up.port, "/api/run", json.dumps(ASK).encode())[:-5]
        with closing(socket.create_connection(("127.0.0.1", up.port), timeout=5)) as raw:
            raw.sendall(first.replace(b"%d", str(up.port).encode()))
            time.sleep(0.2)
            if second and not half:
                raw.sendall(second)
                time.sleep(0.2)
        time.sleep(0.2)
        assert asked(up.port) == b"HTTP/1.1 200 OK"
    assert capfd.readouterr().err == "" and caplog.text == ""


def test_readings_hold_up_neither_the_page_nor_its_facts(session, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(server, "look", lambda *_: {"waited": ended.wait(60)})
    body = json.dumps(LOOK).encode()
    with served(session) as up:
        raw = [socket.create_connection(("127.0.0.1", up.port), timeout=10) for _ in range(50)]
        for one in raw:
            one.sendall(request(up.port, "/api/tokens", body))
        for path in ("/", "/api/model", "/static/app.js"):
            assert asked(up.port, path) == b"HTTP/1.1 200 OK"
        busy = [one.recv(4096) for one in raw[server.MAX_ASIDE :]]
        assert all(b" 503 " in a and b"try again" in a for a in busy)
        ended.set()
        assert all(one.recv(4096).startswith(b"HTTP/1.1 200") for one in raw[: server.MAX_ASIDE])
        assert asked(up.port, "/api/tokens", body) == b"HTTP/1.1 200 OK"
        for one in raw:
            one.close()


def test_the_end_of_the_server_writes_no_traceback(session, monkeypatch, capfd, caplog):
    ended, read = threading.Event(), json.dumps(LOOK).encode()
    monkeypatch.setattr(server, "look", lambda *_: {"waited": ended.wait(60)})
    monkeypatch.setattr(server, "write", lambda *a: (a[3]({"type": "start"}), ended.wait(60)))
    with served(session) as up:
        raw = [socket.create_connection(("127.0.0.1", up.port), timeout=10) for _ in range(4)]
        raw[0].sendall(request(up.port, "/api/run", json.dumps(ASK).encode()))
        came = b""
        while b'"start"' not in came:  # in one piece or two
            came += raw[0].recv(4096)
        raw[1].sendall(request(up.port, "/api/tokens", read))
        raw[2].sendall(request(up.port, "/api/tokens", read)[:-5])
        time.sleep(0.2)
    ended.set()
    for one in raw:
        one.close()
    said = capfd.readouterr().err
    assert "Traceback" not in said + caplog.text and len(said.splitlines()) <= 1, said


@pytest.fixture(scope="module")
def client(session):
    return TestClient(server.make_app(session, 8765), base_url="http://127.0.0.1:8765", raise_server_exceptions=False)


def refused(client, path: str, body: bytes) -> str:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:200])
    said = answer.json()["error"]
    assert said and "\n" not in said and len(said) <= server.SAID + 4
    said.encode()  # no half characters
    return said


@pytest.mark.parametrize("path", [f"/api/{name}" for name in ("run", "tokens", "doses", "seeds", "vector")])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff\xfe\x00", b"\x00" * 9, b'"a"', b"1e999", b"NaN", b"null", b"[" * 60_000,
        b'{"a":' * 9_000, b"1" * 5000,
        b'{"text": "\xed\xa0\x80"}', b'{"layer": ' + b"1" * 5000 + b"}", b"{}", b"x" * 70_000, b'\xef\xbb\xbf{"a": 1}',
        b'{"text": ' + b"[" * 900 + b"]" * 900 + b', "prompt": 1}',
    ],
    ids=lambda b: repr(b[:12]),
)  # fmt: skip
def test_a_body_of_any_bytes_is_a_line_about_it(client, path, body):
    refused(client, path, body)


HALF = "\ud800"
BAD = {
    "text": [None, 1, "", " ", HALF, [], {}, "x" * 9000],
    "prompt": [None, 1, "", "\n", "a" + HALF, ["a"], {"a": 1}],
    "emotions": [None, 1, "calm", [], ["calm"] * 9, [HALF], [None], [{}], [["calm"]], ["\n\x1b"], ["x" * 9000]],
    "mix": [None, 1, "angry", [], {}, {HALF: 1}, {"x" * 9000: 1}, *({"angry": n} for n in (10**400, HALF, []))],
    "unit": [None, 1, [], {}, HALF, "x" * 9000, 10**400],
    "positions": [None, [[]], {"a": 1}, HALF, "x\ny"],
    "format": [None, 1, [], "", "GGUF", "../x", HALF],
    **{
        name: [None, True, "1", HALF, [], {}, float("nan"), float("inf"), 1e308, 10**400, -(10**400), -99]
        for name in ("dose", "first_layer", "last_layer", "tokens", "temperature", "seed", "layer")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_field_of_any_kind_is_a_line_about_it(client, name):
    forms = {"/api/tokens": LOOK, "/api/vector": TAKE, **{f"/api/{path}": ASK for path in ("run", "doses", "seeds")}}
    for path, whole in forms.items():
        for value in BAD[name] if name in whole else []:
            if (name, value) != ("layer", None):  # which is the middle one
                refused(client, path, json.dumps(whole | {name: value}).encode())
