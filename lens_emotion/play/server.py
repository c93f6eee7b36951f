"""The routes of the playground: the page, facts, a stream of events while a text is written, token scores."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lens_emotion.errors import LensEmotionError
from lens_emotion.play.ask import read_ask, read_look
from lens_emotion.play.guard import TooLargeError, body_of, guarded, problem
from lens_emotion.play.session import Event, Session, facts, look, push_of, write
from lens_emotion.play.turns import StoppedError
from lens_emotion.steering.side_by_side import Push

STATIC = Path(__file__).parent / "static"


def make_app(session: Session, port: int) -> ASGIApp:
    """The app for one session, to be served on 127.0.0.1 at this port (which the Host header must name)."""

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def model(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(facts, session))

    async def run(request: Request) -> Response:
        ask = read_ask(await _json_body(request))
        push = await run_in_threadpool(push_of, session, ask)
        return StreamingResponse(_events(session, push, ask.test), media_type="text/event-stream")

    async def stop(_: Request) -> Response:
        session.turns.stop()
        return JSONResponse({})

    async def tokens(request: Request) -> Response:
        asked = read_look(await _json_body(request))
        return JSONResponse(await run_in_threadpool(look, session, asked))

    routes = [
        Route("/", page),
        Route("/api/model", model),
        Route("/api/run", run, methods=["POST"]),
        Route("/api/stop", stop, methods=["POST"]),
        Route("/api/tokens", tokens, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    handlers: Any = {LensEmotionError: _user_error, TooLargeError: _too_large, _NotJsonError: _not_json}
    return guarded(Starlette(routes=routes, exception_handlers=handlers), port)


class _NotJsonError(Exception):
    """The body does not say that it is JSON: a plain form of another page could send such a one."""


async def _json_body(request: Request) -> bytes:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise _NotJsonError
    return await body_of(request)


def _user_error(_: Request, error: Exception) -> Response:
    return problem(400, str(error))


def _too_large(_: Request, error: Exception) -> Response:
    return problem(413, str(error))


def _not_json(_: Request, __: Exception) -> Response:
    return problem(415, "send application/json")


async def _events(session: Session, push: Push, test: bool) -> AsyncIterator[str]:
    """Server-sent events of one run. A client that leaves closes this iterator, which stops the writing."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | None]()
    stop = threading.Event()

    def emit(event: Event | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, event)

    def work() -> None:
        try:
            write(session, push, test, emit, stop)
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
            yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
    finally:
        stop.set()
