"""Connections of the playground: so many and no more, each with so much time to send a request and to take the answer.

uvicorn closes an idle connection only after its first answer, and its own limit refuses the newest one, which is the
page that somebody wants to see. Here the one that has waited longest for its request makes room.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 64  # a browser opens six
BACKLOG = 64  # asyncio accepts as many before it looks at any of them: files that are open for a moment
QUEUE = 1024  # more may wait with the system, unaccepted
REQUEST_SECONDS = 10.0  # from the connection, or its last answer, to the last byte of the next request
TAKE_SECONDS = 30.0  # for a client to read what waits for it


class Connection(H11Protocol):
    """One connection. Who is late, or stops reading, is cut off without a word in the log."""

    _timers: dict[str, asyncio.TimerHandle]
    _since = 0.0  # when it began to wait for a request, in the loop's seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timers = {}
        self._await_request()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [cast(Connection, c) for c in self.connections if cast(Connection, c)._waits()]
            oldest = min(waiting, key=lambda c: c._since)
            self.connections.discard(oldest)  # now: more may be made before it is lost
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in ("request", "take"):
            self._cancel(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.ProtocolError:  # no HTTP, behind an answer that has begun
            self.transport.abort()

    def on_response_complete(self) -> None:
        self._await_request()
        try:
            super().on_response_complete()
        except h11.ProtocolError:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set("take", TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel("take")

    def shutdown(self) -> None:
        super().shutdown()
        if self._waits():
            self.transport.abort()

    def _waits(self) -> bool:
        """True until the last byte of a request is here."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _await_request(self) -> None:
        self._since = self.loop.time()
        self._set("request", REQUEST_SECONDS, self._late)

    def _late(self) -> None:
        if self._waits():
            self.transport.abort()

    def _set(self, name: str, seconds: float, act: Any) -> None:
        self._cancel(name)
        self._timers[name] = self.loop.call_later(seconds, act)

    def _cancel(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
