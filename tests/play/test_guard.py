"""The playground's guard, without a model: who may ask, how much, and what every answer says to a browser."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from lens_emotion.play import server
from lens_emotion.play.asks import MAX_BODY
from lens_emotion.play.server import HEADERS, MAX_ASIDE, SAID, guarded, make_app, problem

PORT = 8765
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def inside():
    """What lies behind the guard: it answers everybody."""
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])])
    return TestClient(guarded(app, PORT), base_url=HERE)


HOSTS = {
    f"127.0.0.1:{PORT}": True, f"localhost:{PORT}": True,
    "127.0.0.1": False, "localhost": False, f"127.0.0.1:{PORT + 1}": False, f"127.0.0.1:{PORT}0": False,
    f"evil.example:{PORT}": False, f"localhost.evil.example:{PORT}": False, f"0.0.0.0:{PORT}": False,
    f"127.0.0.2:{PORT}": False, f"[::1]:{PORT}": False, f"127.0.0.1:{PORT}@evil.example": False, "": False,
}  # fmt: skip
ORIGINS = {
    None: True, HERE: True, f"http://localhost:{PORT}": True,
    "null": False, "": False, "http://evil.example": False, f"https://127.0.0.1:{PORT}": False,
    f"http://127.0.0.1:{PORT + 1}": False, "http://127.0.0.1": False, f"{HERE}.evil.example": False,
    f"http://evil.example/127.0.0.1:{PORT}": False, f"127.0.0.1:{PORT}": False,
}  # fmt: skip
SITES = {None: True, "same-origin": True, "none": True, "same-site": False, "cross-site": False, "": False}
TABLES = {"Host": HOSTS, "Origin": ORIGINS, "Sec-Fetch-Site": SITES}


@pytest.mark.parametrize(
    ("name", "value", "may"), [(name, *row) for name, table in TABLES.items() for row in table.items()]
)
def test_only_this_page_is_let_in_and_every_answer_has_the_headers(inside, name, value, may):
    given = {} if value is None else {name: value}
    for answer in (inside.get("/", headers=given), inside.post("/", headers=given)):
        assert answer.status_code == (200 if may else 403), (name, value)
        assert may or answer.text != "in"
        for header, wanted in HEADERS.items():
            assert answer.headers[header] == wanted


def test_one_right_header_does_not_make_up_for_a_wrong_one(inside):
    right = {"Host": f"127.0.0.1:{PORT}", "Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    assert inside.get("/", headers=right).status_code == 200
    for name in right:
        assert inside.get("/", headers=right | {name: "evil.example"}).status_code == 403


def test_the_policy_lets_the_page_load_its_own_files_and_nothing_frame_or_post_it():
    rules = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    own, none = ({name for name, to in rules.items() if to == f"'{where}'"} for where in ("self", "none"))
    assert own == {"script-src", "style-src", "img-src", "connect-src"}
    assert none == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert HEADERS["X-Content-Type-Options"] == "nosniff" and HEADERS["Cache-Control"] == "no-store"


@pytest.fixture
def client(monkeypatch, untyped):
    """The app without a model: a text is looked at by its length."""
    monkeypatch.setattr(server, "facts", lambda session: {})
    monkeypatch.setattr(server, "read_look", lambda body: body)
    monkeypatch.setattr(server, "look", lambda session, body: {"n": len(body)})
    return TestClient(make_app(None, PORT), base_url=HERE, raise_server_exceptions=False)


def test_only_json_is_read(client):
    kinds = {"application/json": 200, "application/json; charset=utf-8": 200, "text/plain": 415, "": 415}
    kinds |= {
        "application/x-www-form-urlencoded": 415,
        "multipart/form-data; boundary=x": 415,
        "application/jsonx": 415,
    }
    for kind, status in kinds.items():
        assert client.post("/api/tokens", content=b"{}", headers={"Content-Type": kind}).status_code == status, kind


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 200), (MAX_BODY + 1, 413)])
def test_a_body_is_read_up_to_its_limit_and_no_further(client, size, status):
    json = {"Content-Type": "application/json"}
    assert client.post("/api/tokens", content=b"x" * size, headers=json).status_code == status
    pieces = (b"x" for _ in range(size))  # in chunks, without a length
    assert size > 10**5 or client.post("/api/tokens", content=pieces, headers=json).status_code == status


def test_an_error_is_one_line_of_bounded_length():
    said = problem(400, "a\nb " + "x" * 10**5).body
    assert b"\\n" not in said and b"a b" in said and len(said) < SAID + 40


def test_more_readings_than_make_sense_are_refused_and_the_rest_are_answered(client, monkeypatch):
    held, let_go = threading.Semaphore(0), threading.Event()

    def slow(session, body):
        held.release()
        let_go.wait(20)
        return {}

    monkeypatch.setattr(server, "look", slow)
    answers = []
    json = {"Content-Type": "application/json"}
    with client:  # one loop for all requests
        ask = lambda: answers.append(client.post("/api/tokens", content=b"{}", headers=json).status_code)  # noqa: E731
        asking = [threading.Thread(target=ask) for _ in range(MAX_ASIDE)]
        for one in asking:
            one.start()
        for _ in asking:
            assert held.acquire(timeout=20)
        assert client.post("/api/tokens", content=b"{}", headers=json).status_code == 503
        let_go.set()
        for one in asking:
            one.join()
        assert answers == [200] * MAX_ASIDE
        assert client.post("/api/tokens", content=b"{}", headers=json).status_code == 200
