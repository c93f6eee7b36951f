"""The playground on a port of its own, under uvicorn as in use."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

from lens_emotion.play import launch


@contextmanager
def served(session):
    """Yields the port, and the connections that the server holds."""
    opened = launch.open_port(0)
    port = opened.getsockname()[1]
    running = launch.server_of(session, opened)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield SimpleNamespace(port=port, connections=running.server_state.connections)
    finally:
        session.turns.stop()
        running.should_exit = True
        thread.join(60)
