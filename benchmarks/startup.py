"""How long it takes until something happens: import, --help, the first progress bar. Each in a process of its own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Options, Row, Skipped, interleaved
from benchmarks.subjects import TINY
from benchmarks.table import run_alone

NAME = "startup"
ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import lens_emotion"
TORCH = "import torch"
HELP = "import sys; sys.argv = ['lens-emotion', '--help']; from lens_emotion.cli.app import main; main()"
READ = f"import lens_emotion as le; le.extract_comprehension(le.load_model('{TINY}', device='cpu'), 'world-en')"
LOAD = """
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformer_lens.model_bridge import TransformerBridge
folder = {folder!r}
hf_model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
TransformerBridge.boot_transformers("model", hf_model=hf_model, tokenizer=AutoTokenizer.from_pretrained(folder))
"""
LONGEST = 120.0  # seconds to wait for a progress bar


def rows(options: Options) -> list[Row]:
    """Wall time of fresh processes: import, --help, first progress bar."""
    from lens_emotion.models.loading import resolve

    load = LOAD.format(folder=resolve(TINY).location)
    light = interleaved({"import": _run(IMPORT), "help": _run(HELP), TORCH: _run(TORCH)}, options.repeats)
    found = [
        Row.measured(NAME, IMPORT, light, "import", TORCH, 4.0, "a new Python included"),
        Row.measured(NAME, "lens-emotion --help", light, "help", TORCH, 2.0, "a new Python included"),
    ]
    if not options.quick:
        first = {"bar": lambda: until_first_bar(READ), "transformer_lens loads it": _run(load)}
        note = "import and load included; the goal leaves a third more for finding and tokenising the texts"
        what = f"first progress bar of extract_comprehension, {TINY}"
        samples = interleaved(first, options.repeats)
        found.append(Row.measured(NAME, what, samples, "bar", "transformer_lens loads it", 0.75, note))
    return found


def _environment() -> dict[str, str]:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "LENS_EMOTION_PROGRESS": "1"}


def _run(code: str):  # type: ignore[no-untyped-def]
    options = {"env": _environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "check": True}
    return lambda: subprocess.run([sys.executable, "-c", code], **options)  # type: ignore[call-overload]


def until_first_bar(code: str) -> None:
    """Run code with a terminal as its stderr until a progress bar appears there, and end it."""
    try:
        import pty
        import termios
    except ImportError:
        raise Skipped("no pseudo-terminals on this system: the first progress bar cannot be watched") from None
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))  # in a window without columns no bar is drawn
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=_environment(), stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    seen, end = b"", time.monotonic() + LONGEST
    try:
        while b"reading texts" not in seen:
            if time.monotonic() > end or not select.select([ours], [], [], LONGEST)[0]:
                raise RuntimeError(f"no progress bar within {LONGEST:.0f} s")
            part = _read(ours)
            if not part:
                raise RuntimeError(f"the process ended without a progress bar: {seen.decode(errors='replace')[-300:]}")
            seen += part
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so at the end of the other side
        return b""


if __name__ == "__main__":
    run_alone(rows)
