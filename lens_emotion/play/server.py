"""The routes of the playground: the page, facts, a stream of events while a text is written, token scores."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lens_emotion.errors import LensEmotionError
from lens_emotion.play.asks import MAX_BODY, read_ask, read_look, read_take
from lens_emotion.play.series import check_seeds, sweep_doses, write_seeds
from lens_emotion.play.session import Emit, Event, Session, StoppedError, facts, look, push_of, vector_file, write

STATIC = Path(__file__).parent / "static"
MAX_ASIDE = 8  # requests that are at the model or wait for it, beside the one that writes
SAID = 500  # characters of an error: a name in it may be as long as a request
T = TypeVar("T")


def make_app(session: Session, port: int) -> ASGIApp:
    """The app for one session, to be served on 127.0.0.1 at this port (which the Host header must name)."""
    told, aside = facts(session), _Aside()  # the facts do not change: nobody waits for the model to see them

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def model(_: Request) -> Response:
        return JSONResponse(told)

    async def run(request: Request) -> Response:
        ask = read_ask(await _json_body(request))
        push = await aside.run(lambda: push_of(session, ask))
        return _stream(lambda emit, stop: write(session, push, ask.test, emit, stop))

    async def doses(request: Request) -> Response:
        ask = read_ask(await _json_body(request))
        push = await aside.run(lambda: push_of(session, ask))
        return _stream(lambda emit, stop: sweep_doses(session, push, emit, stop))

    async def seeds(request: Request) -> Response:
        ask = read_ask(await _json_body(request))
        push = await aside.run(lambda: check_seeds(push_of(session, ask)))
        return _stream(lambda emit, stop: write_seeds(session, push, emit, stop))

    async def stop(_: Request) -> Response:
        session.turns.stop()
        return JSONResponse({})

    async def tokens(request: Request) -> Response:
        asked = read_look(await _json_body(request))
        return JSONResponse(await aside.run(lambda: look(session, asked)))

    async def vector(request: Request) -> Response:
        take = read_take(await _json_body(request))
        name, data = await aside.run(lambda: vector_file(session, take))
        kept = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type="application/octet-stream", headers=kept)

    routes = [
        Route("/", page),
        Route("/api/model", model),
        Route("/api/run", run, methods=["POST"]),
        Route("/api/doses", doses, methods=["POST"]),
        Route("/api/seeds", seeds, methods=["POST"]),
        Route("/api/vector", vector, methods=["POST"]),
        Route("/api/stop", stop, methods=["POST"]),
        Route("/api/tokens", tokens, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    handlers: Any = {
        error: lambda _, raised, status=status: problem(status, str(raised), getattr(raised, "field", ""))
        for error, status in _STATUS.items()
    }
    return guarded(Starlette(routes=routes, exception_handlers=handlers), port)


class _NotJsonError(Exception):
    """The body does not say that it is JSON: a plain form of another page could send such a one."""


class TooLargeError(Exception):
    """A request's body is over the limit."""


class BusyError(Exception):
    """More readings wait for the model than make sense."""


# a client that leaves before its request is whole hears no answer, and is no fault
_STATUS = {LensEmotionError: 400, ClientDisconnect: 400, TooLargeError: 413, _NotJsonError: 415, BusyError: 503}


class _Aside:
    """Work at the model, each in a thread of its own: those that serve the page's files are left to them."""

    waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns.

        Raises:
            BusyError: too many wait.
        """
        if self.waiting >= MAX_ASIDE:
            raise BusyError(f"{MAX_ASIDE} requests wait for the model; try again in a moment")
        loop = asyncio.get_running_loop()
        made: asyncio.Future[T] = loop.create_future()

        def end(result: T | None, error: BaseException | None) -> None:
            self.waiting -= 1
            if made.cancelled():
                return
            made.set_exception(error) if error else made.set_result(result)  # type: ignore[arg-type]

        def act() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:
                failed = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(end, result, failed)

        self.waiting += 1
        threading.Thread(target=act, name="lens-emotion-play-aside", daemon=True).start()
        return await made


async def _json_body(request: Request) -> bytes:
    """The body, read no further than the limit."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise _NotJsonError("send application/json")
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise TooLargeError(f"the request is over {MAX_BODY // 1024} KiB; shorten the text")
    return b"".join(parts)


Work = Callable[[Emit, threading.Event], None]


def _stream(work: Work) -> Response:
    return StreamingResponse(_events(work), media_type="text/event-stream")


async def _events(write_all: Work) -> AsyncIterator[str]:
    """Server-sent events of one piece of work. A client that leaves closes this iterator, which stops the writing."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | None]()
    stop = threading.Event()

    def emit(event: Event | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, event)

    def work() -> None:
        try:
            write_all(emit, stop)
        except StoppedError:
            emit({"type": "stopped"})
        except LensEmotionError as error:
            emit({"type": "error", "message": str(error)})
        except Exception as error:
            emit({"type": "error", "message": f"the server failed: {type(error).__name__}: {error}"})
            raise
        finally:
            emit(None)

    threading.Thread(target=work, name="lens-emotion-play", daemon=True).start()
    try:
        while (event := await queue.get()) is not None:
            yield f"data: {json.dumps(event)}\n\n"
    finally:
        stop.set()


# What keeps the page to this machine and this origin: a wrapper around the app, before any route is asked.
#
# A page on the web can make a browser call 127.0.0.1, and by DNS rebinding even under a name of its own. So the Host
# header must be this server's, and so must Origin, where a browser sends one.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guarded(app: ASGIApp, port: int) -> ASGIApp:
    """The app behind the checks, with the same headers on every answer."""
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)

        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = _refusal(Headers(scope=scope), hosts)
        try:
            await (refusal or app)(scope, receive, with_headers)
        except asyncio.CancelledError:  # the server ends, and uvicorn would print where
            last: Message = {"type": "http.response.body", "body": b"", "more_body": False}
            await (send(last) if begun else problem(503, "the server has ended")(scope, receive, with_headers))

    return wrapped


def _refusal(headers: Headers, hosts: set[str]) -> Response | None:
    if headers.get("host") not in hosts:
        return problem(403, f"this server answers to {' or '.join(sorted(hosts))} only")
    origin = headers.get("origin")
    if origin is not None and origin not in {f"http://{host}" for host in hosts}:
        return problem(403, "a page of another origin may not use this server")
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return problem(403, "a page of another site may not use this server")
    return None


def problem(status: int, message: str, field: str = "") -> Response:
    """An answer that says what is wrong, in one line that any name in it can be part of, and with which field."""
    line = " ".join(message.encode("utf-8", "backslashreplace").decode().split())
    said = {"error": line if len(line) <= SAID else line[:SAID] + " ..."}
    return JSONResponse(said | ({"field": field} if field else {}), status_code=status)
