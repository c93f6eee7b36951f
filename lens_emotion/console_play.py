"""What `lens-emotion play` prints while it loads and serves."""

from __future__ import annotations

import time
import webbrowser
from contextlib import suppress
from pathlib import Path

from lens_emotion.console import say_line
from lens_emotion.models.loading import load_model
from lens_emotion.play.launch import HOST, open_port, open_session, serve


def play_and_print(
    name: str, vectors: Path | None, port: int, browser: bool, backend: str, dtype: str, device: str | None
) -> None:
    """Load a model and its vectors, serve the page on this machine, and open a browser unless told not to."""
    started = time.monotonic()
    opened = open_port(port)
    model = load_model(name, backend=backend, dtype=dtype, device=device)
    session = open_session(model, vectors, say=say_line)
    url = f"http://{HOST}:{opened.getsockname()[1]}/"

    def ready() -> None:
        say_line(f"[bold]{session.info.name}[/] is at [bold]{url}[/] ({time.monotonic() - started:.0f} s; Ctrl+C ends)")
        if browser:
            webbrowser.open(url)

    with suppress(KeyboardInterrupt):
        serve(session, opened, ready)
    say_line("ended")
