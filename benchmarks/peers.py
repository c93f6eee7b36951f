"""Reading the same passages with other packages: steering-vectors and repeng, in an environment of their own.

    python -m benchmarks.peers --peers [--model FOLDER]

Nothing is installed without --peers. Their process waits while ours works, and the other way round.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lens_emotion as le
from benchmarks.measure import Options, Row, Skipped, interleaved
from benchmarks.reading import BODY, as_reading, body, limit
from benchmarks.subjects import TINY, is_real, loaded, plain_model, texts, tiny_tokenizer, token_ids
from benchmarks.table import run_alone
from lens_emotion.models.access import Model
from lens_emotion.models.loading import resolve
from lens_emotion.stimuli.sets import StimulusSet

NAME = "peers"
PACKAGES = ("steering-vectors==0.12.2", "repeng==0.4.0")
GOALS = {"steering-vectors": 2.0, "steering-vectors, batches of 16": 1.0, "repeng": 2.0}
ENVIRONMENT = "LENS_EMOTION_PEERS"  # a folder that keeps the environment for the next time


def rows(options: Options) -> list[Row]:
    """Last-token states of every layer of the same texts: ours against steering-vectors and repeng."""
    if not options.peers:
        raise Skipped("give --peers: it installs steering-vectors and repeng into an environment of their own")
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        python = installed(Path(os.environ.get(ENVIRONMENT) or temporary))
        for name, model in loaded(options):
            folder = {Path(f).name: f for f in options.models}.get(name) or _folder(name, options, temporary)
            chosen = texts(_size(model, options), is_real(options))
            found += _rows_of(name, model, folder, chosen, python, options)
    return found


def _size(model: Model, options: Options) -> int:
    large = model.cfg.d_model >= 512
    return 20 if options.quick else 240 if not large or options.full else 24


def _folder(name: str, options: Options, temporary: str) -> str:
    """Where the other packages find the model's weights."""
    if name == TINY:
        return resolve(TINY).location
    folder = str(Path(temporary) / name)
    plain_model(name, options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def installed(folder: Path) -> Path:
    """The Python of an environment with both packages, made anew if the folder holds none.

    Raises:
        Skipped: they cannot be installed here; the message says what pip said last.
    """
    python = folder / "peers" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if python.exists():
        return python
    venv.create(folder / "peers", with_pip=True)
    release = torch.__version__.split("+")[0]
    # torch first and alone: the other way round pip may take a build with gigabytes of accelerator libraries
    for wanted in ((f"torch=={release}",), (*PACKAGES, f"torch=={release}")):
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING: Loc")]
            raise Skipped(f"pip cannot install {', '.join(wanted)}: {said[-1] if said else 'no reason given'}")
    return python


class Peer:
    """The other packages' process: ask it for a way by name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            errors = (self.process.stderr.read() if self.process.stderr else "").strip().splitlines()
            raise Skipped(f"the other packages cannot read this model: {errors[-1] if errors else 'no reason given'}")
        return dict(json.loads(answer))


@contextmanager
def peer(python: Path, folder: str, chosen: StimulusSet, threads: int) -> Iterator[Peer]:
    script = Path(__file__).with_name("peer_script.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([str(python), str(script)], text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            asked = Peer(process)
            asked.ask(json.dumps({"folder": folder, "texts": chosen.texts, "threads": threads}))
            yield asked
        finally:
            process.kill()


def _rows_of(
    name: str, model: Model, folder: str, chosen: StimulusSet, python: Path, options: Options
) -> list[Row]:  # fmt: skip
    def ours() -> torch.Tensor:
        return le.extract_comprehension(model, chosen, pooling=le.last_token(), progress=False).values

    plain, ids = plain_model(name, options), token_ids(model, chosen)
    bare = partial(body, model, plain, [as_reading(row) for row in ids])
    with peer(python, folder, chosen, options.threads) as other:
        norms = ours()[:, -2].norm(dim=-1).numpy()
        agreement = {way: _median_difference(norms, other.ask(way)["norms"]) for way in GOALS}
        calls = {"ours": ours, BODY: bare, **{way: (lambda way=way: other.ask(way)) for way in GOALS}}
        samples = interleaved(calls, 3, warm_up=False)  # the comparison above was the warm-up
    what = f"last token of {len(chosen)} texts, every layer, {name}"
    notes = {way: f"{limit(samples, way)}; norms differ by {agreement[way]:.0e}" for way in GOALS}
    return [Row.measured(NAME, what, samples, "ours", way, goal, notes[way]) for way, goal in GOALS.items()]


def _median_difference(ours: np.ndarray, theirs: list[float]) -> float:
    """Median relative difference: the ways may put different tokens in front, and end on different pads."""
    return float(np.median(np.abs(np.array(theirs) / ours - 1)))


if __name__ == "__main__":
    run_alone(rows)
