"""Our vector files in the hands of repeng and steering-vectors, in an environment of their own: do they steer alike?

    python -m benchmarks.interchange            (installs both packages into a folder; LENS_EMOTION_PEERS keeps it)

Both steer a plain Hugging Face model with our files at scale 1; their logits must be those of `le.steer`. A control
vector that repeng writes must come back as the same displacement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import lens_emotion as le
from benchmarks.peers import ENVIRONMENT, installed
from benchmarks.subjects import TINY
from lens_emotion.models.loading import resolve
from lens_emotion.models.prompting import encode
from lens_emotion.vectors.interchange import displacements

PROMPT = "That morning Anna was in the kitchen. She"
DOSE, LAYERS = 3.0, [2, 3, 5]
TOLERANCE = 1e-4  # of the largest logit: other versions of transformers sum in another order


def compare(folder: Path, name: str = TINY) -> dict[str, float]:
    """Largest relative deviation of each way from ours, and of the directions that came back."""
    python = installed(Path(os.environ.get(ENVIRONMENT) or folder))
    model = le.load_model(name, device="cpu")
    vector = le.emotion_vectors(le.extract_comprehension(model, progress=False))["angry"]
    parts = displacements(vector, DOSE, LAYERS)
    save_file({str(k): v for k, v in parts.items()}, folder / "plain.safetensors")
    told = {
        "folder": resolve(name).location,
        "gguf": str(le.to_gguf(vector, folder / "ours.gguf", DOSE, LAYERS)),
        "plain": str(folder / "plain.safetensors"),
        "back": str(folder / "theirs.gguf"),
        "ids": encode(model, PROMPT),
    }
    answer = _ask(python, told)
    print(", ".join(f"{k} {v}" for k, v in answer["versions"].items()), f"; model hint {answer['model_type']}")
    with torch.inference_mode():
        plain = model(torch.tensor([told["ids"]]))[0, -1]
    ours = _steered(model, vector, told["ids"])
    back = displacements(le.from_gguf(told["back"], model), 1.0, LAYERS)
    worst = max(float((back[k] - part).norm() / part.norm()) for k, part in parts.items())
    return {
        "repeng, our GGUF": _apart(answer["repeng"], ours),
        "steering-vectors, our file": _apart(answer["steering_vectors"], ours),
        "repeng's GGUF, read by us": worst,
        "(unsteered)": _apart(plain.tolist(), ours),
    }


def _steered(model: Any, vector: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode(), le.steer(model, vector, DOSE, layers=LAYERS):
        return model(torch.tensor([ids]))[0, -1]


def _apart(theirs: list[float], ours: torch.Tensor) -> float:
    return float((torch.tensor(theirs) - ours).abs().max() / ours.abs().max())


def _ask(python: Path, told: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).with_name("interchange_script.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), str(script)], input=json.dumps(told) + "\n", capture_output=True, text=True, env=environment
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    if not lines:
        raise SystemExit(f"the other packages failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return dict(json.loads(lines[-1].removeprefix("ANSWER ")))


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        found = compare(Path(temporary))
    for way, apart in found.items():
        print(f"{way:<28} {apart:.1e}")
    met = all(apart <= TOLERANCE for way, apart in found.items() if not way.startswith("("))
    print("agree" if met and found["(unsteered)"] > 100 * TOLERANCE else "DISAGREE")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
