"""From a model's name to a served session: load, read or find vectors, open a port on this machine."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import default_stimuli, extract_comprehension
from lens_emotion.models.access import Model, describe
from lens_emotion.play.session import Session, session_of
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
CACHE = Path("runs") / "play"
Say = Callable[[str], None]


def open_session(model: Model, vectors: Path | None = None, cache: Path | None = CACHE, say: Say = print) -> Session:
    """A session with vectors from a file, from an earlier session's readings in `cache`, or read now.

    Raises:
        ArtifactError, FingerprintError: a vector file that is broken or of another model.
    """
    if vectors is not None:
        return session_of(model, EmotionVectors.load(vectors))
    path = cache / cache_name(model) if cache is not None else None
    acts = _kept(path, model, say)
    if acts is None:
        acts = extract_comprehension(model)
        try:
            if path is not None:
                say(f"readings kept for the next time: {acts.save(path, overwrite=True)}")
        except ArtifactError as error:
            say(f"note: {error}")
    return session_of(model, emotion_vectors(acts), acts)


def cache_name(model: Model) -> str:
    """File of a model's readings: its name, and hashes of its weights and of the texts it reads."""
    info, texts = describe(model), load_stimuli(default_stimuli(model))
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", info.name).strip("-.")[-60:] or "model"
    return f"{name}-{info.fingerprint[:12]}-{texts.sha256[:12]}-{info.dtype}.safetensors"


def _kept(path: Path | None, model: Model, say: Say) -> PooledActivations | None:
    if path is None or not path.is_file():
        return None
    try:
        acts = PooledActivations.load(path)
    except ArtifactError as error:
        say(f"note: {error}; reading anew")
        return None
    if acts.header.fingerprint != describe(model).fingerprint:  # those of before 0.2 are read anew
        return None
    say(f"readings of an earlier session: {path}")
    return acts


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
