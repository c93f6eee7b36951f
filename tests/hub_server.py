"""A stand-in for the Hugging Face Hub on this machine: what pushing and pulling a small repository asks of it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = "/someone/moods"


@dataclass
class Hub:
    """Its address, what lies in it, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    refuse: int = 0

    def post(self, path: str, body: bytes) -> Any:
        """The answer to a POST."""
        if path == "/api/repos/create":
            self.made = json.loads(body)
            return {"url": self.address + PAGE}
        if "/preupload/" in path:
            plain = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return {"files": [{"path": f["path"], **plain} for f in json.loads(body)["files"]]}
        if "/commit/" in path:
            for row in map(json.loads, body.splitlines()):
                self.take(row["key"], row["value"])
            return {"commitUrl": f"{self.address}{PAGE}/commit/{COMMIT}", "commitOid": COMMIT}
        return {}

    def take(self, key: str, value: dict[str, Any]) -> None:
        if key == "header":
            self.message = value["summary"]
        else:
            self.files[value["path"]] = base64.b64decode(value["content"])


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args):
        pass

    def answer(self, code, body=b"", headers=()):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        self.hub.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.refuse:
            self.answer(self.hub.refuse, b'{"error": "no"}')
        else:
            self.answer(200, json.dumps(self.hub.post(self.path, body)).encode())

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        data = self.hub.files.get(self.path.rsplit("/", 1)[-1])
        if "/resolve/" not in self.path:
            self.answer(200, json.dumps({"id": PAGE[1:], "sha": COMMIT}).encode())
        elif data is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            tag = hashlib.sha256(data).hexdigest()
            self.answer(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'})


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A Hub on a free local port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
