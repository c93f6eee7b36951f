"""From a model's name to a served session: load, read or find vectors, open a port on this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.kept import READINGS, Say, own_reading
from lens_emotion.models.access import Model
from lens_emotion.play.session import Session, session_of
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"


def open_session(
    model: Model, vectors: Path | None = None, readings: Path | None = READINGS, say: Say = print
) -> Session:
    """A session with vectors from a file, or made of the model's readings: of an earlier call, or read now. Either way
    the readings are what token scores are compared with.

    Raises:
        ArtifactError, FingerprintError: a vector file that is broken or of another model.
    """
    if vectors is not None:
        return session_of(model, EmotionVectors.load(vectors), None, readings, say)
    acts = own_reading(model, readings, say)
    return session_of(model, emotion_vectors(acts), acts)


def open_port(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 takes any that is free.

    Raises:
        ArtifactError: the port is taken.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
        opened.listen()
    except (OSError, OverflowError) as error:
        opened.close()
        raise ArtifactError(f"cannot listen on port {port} ({error}); give another --port, or 0 for any") from None
    return opened


def serve(session: Session, opened: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until interrupted; `ready` is called once the page can be asked for."""
    server_of(session, opened, ready).run(sockets=[opened])


def server_of(session: Session, opened: socket.socket, ready: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """The server, to be run on this socket: silent, with bounds on connections."""
    import uvicorn

    from lens_emotion.play.connections import BACKLOG, QUEUE, Connection
    from lens_emotion.play.server import make_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            opened.listen(QUEUE)  # asyncio's `backlog` sets this as well
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            session.turns.stop()
            await super().shutdown(sockets)

    app = make_app(session, opened.getsockname()[1])
    config = uvicorn.Config(
        app, http=Connection, backlog=BACKLOG, log_level="error", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    return Server(config)
