"""A Jinja template, rendered in a process of its own: a program of strangers that never ends, or takes all memory, ends
with that process and nothing else.

No tracer, thread or rule over its text bounds a template in the process it runs in: `7**20000000` is one call into C.
The process is started when the first template is used (about 0.1 s), imports jinja2 alone, answers one request a line,
and goes with the one that started it. Rules of rendering are those of transformers, but for its clock, which stands.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

SECONDS = 2.0  # of a rendering, which takes about a millisecond
STARTING = 60.0  # of the process, on a machine that is busy
MEMORY = 512 * 2**20  # bytes of the process
LONGEST = 1_000_000  # characters of a template, and of what it writes
TODAY = datetime(2024, 7, 26)  # `date_string` of the catalog; the day that Llama 3.2's template falls back on
_BEGIN = "import sys; sys.path[:] = sys.argv[1:]; from lens_emotion.models.rendering import serve; serve()"
_TOO_MUCH = f"it takes more than {MEMORY >> 20} MiB"
_turn = threading.Lock()
_kept: dict[int, subprocess.Popen[bytes]] = {}  # by process, since a fork must not share its parent's


class RenderError(Exception):
    """A template that fails, does not end, or takes too much; the message is one line."""


def render(source: str, values: dict[str, Any], times: int = 1) -> set[str]:
    """What a template writes with these values, each text once.

    Raises:
        RenderError: whatever goes wrong in it.
    """
    return set(_answer(json.dumps([_bounded(source), values, times], default=str)))


def names_in(source: str) -> set[str]:
    """The names that a template asks to be given.

    Raises:
        RenderError: it is no template, or finding out does not end (constants are folded).
    """
    return set(_answer(json.dumps([_bounded(source), None, 1])))


def _bounded(source: str) -> str:
    if len(source) > LONGEST:
        raise RenderError(f"it has {len(source):,} characters; a template has {LONGEST:,} at most")
    return source


def _answer(request: str) -> list[str]:
    found, why = _asked(request)
    if why:
        raise RenderError(why)
    return found


@lru_cache(maxsize=4096)
def _asked(request: str) -> tuple[list[str], str]:
    """Texts, or what went wrong: the same each time, so that what does not end is waited for once."""
    with _turn:
        process, started = _running(), time.monotonic()
        line = _exchange(process, request.encode() + b"\n", SECONDS)
    if line:
        found, why = json.loads(line)
        return found, why
    late = time.monotonic() - started >= SECONDS
    return [], f"it did not end within {SECONDS:g} seconds" if late else _TOO_MUCH


def _running() -> subprocess.Popen[bytes]:
    """The process of this one that renders, begun if need be."""
    process = _kept.get(os.getpid())
    if process is not None and process.poll() is None:
        return process
    pipe = subprocess.PIPE
    path = [str(Path(__file__).parents[2]), *map(os.path.abspath, sys.path)]
    command = [sys.executable, "-I", "-S", "-c", _BEGIN, *path]  # no look at the user's site: it has this one's path
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise RenderError(f"cannot start {sys.executable} to render it ({error.strerror})") from None
    _kept[os.getpid()] = process
    if not _exchange(process, b"", STARTING):
        raise RenderError(f"{sys.executable} does not start to render it")
    return process


def _exchange(process: subprocess.Popen[bytes], sent: bytes, seconds: float) -> bytes:
    """The line that answers; empty where the process ended before, or was ended for its time."""
    assert process.stdin is not None and process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    line = b""
    try:
        process.stdin.write(sent)
        process.stdin.flush()
        line = process.stdout.readline()
    except OSError:  # it is gone
        pass
    finally:  # also where the user interrupts: an answer that comes later would be another question's
        timer.cancel()
        if not line.endswith(b"\n"):
            _end(process)
            line = b""
    return line


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what it did not read is lost
            pipe.close()  # type: ignore[union-attr]


@atexit.register
def _end_own() -> None:
    if (process := _kept.pop(os.getpid(), None)) is not None:
        _end(process)


# The process itself.


def serve() -> None:
    """Answer requests, one a line: [template, values or null, times] -> [texts or names, what went wrong]."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked, and ends this one by its pipe
    environment = _environment()
    with suppress(ImportError, ValueError, OSError):  # not on Windows; a lower limit stays
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print(flush=True)
    for line in sys.stdin.buffer:
        source, values, times = json.loads(line)
        try:
            answer: tuple[list[str], str] = (sorted(_done(environment, source, values, times)), "")
        except MemoryError:
            answer = [], _TOO_MUCH
        except Exception as error:  # a program of strangers: jinja's errors, and any that Python has
            answer = [], (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        print(json.dumps(answer), flush=True)


def _done(environment: Any, source: str, values: dict[str, Any] | None, times: int) -> set[str]:
    if values is None:
        from jinja2 import meta

        return meta.find_undeclared_variables(environment.parse(source)) - set(environment.globals)
    template = environment.from_string(source)
    written: set[str] = set()
    for _ in range(times):
        written.add(text := template.render(**values))
        if len(text) > LONGEST:
            raise ValueError(f"it writes {len(text):,} characters; a prompt has {LONGEST:,} at most")
    return written


def _environment() -> Any:
    """What transformers compiles chat templates in, with a clock that stands."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """A tag round what the assistant says, which writes it."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    class Namespace(jinja2.utils.Namespace):
        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a namespace takes no {name!r}")
            super().__setitem__(name, value)

    def tojson(
        x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message: Any) -> None:
        raise jinja2.TemplateError(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "strftime_now": TODAY.strftime, "namespace": Namespace}
    return made
