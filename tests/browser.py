"""A headless Chromium, driven through its debugging pipe (no port, no library): for the tests of pages."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One page. `requests` are the addresses it asked for; `complaints` what it wrote to its console or threw."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back, self.rest, self.number = to, back, b"", 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def call(self, method: str, timeout: float = 300, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for answer in self._read(end - time.monotonic()):
                if answer.get("id") == self.number:
                    assert "error" not in answer, answer
                    return answer["result"]
                self._note(answer)
        raise TimeoutError(method)

    def js(self, expression: str) -> Any:
        """The value of an expression (a promise is awaited)."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    def until(self, expression: str, timeout: float = 300) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if value := self.js(expression):
                return value
            time.sleep(0.1)
        raise TimeoutError(expression)

    def picture(self, path: str | Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _read(self, timeout: float) -> list[dict[str, Any]]:
        if not select.select([self.back], [], [], max(timeout, 0))[0]:
            return []
        *whole, self.rest = (self.rest + os.read(self.back, 1 << 20)).split(b"\0")
        return [json.loads(part) for part in whole]

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))


@contextmanager
def browser(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A Chromium with an empty profile, gone after the block."""
    assert CHROMIUM
    (read_there, to), (back, write_there) = os.pipe(), os.pipe()

    def wire() -> None:  # Chromium reads commands on 3 and answers on 4
        a, b = os.dup(read_there), os.dup(write_there)
        os.dup2(a, 3)
        os.dup2(b, 4)

    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    child = subprocess.Popen(
        command, preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(read_there)
    os.close(write_there)
    try:
        yield Browser(to, back)
    finally:
        child.terminate()
        child.wait(30)
        os.close(to)
        os.close(back)
