"""Runs in the environment of the other packages (see peers.py): reads our files with their importers and steers.

Reads one JSON line {"folder", "gguf", "plain", "back", "ids"}; answers {"repeng", "steering_vectors": logits of the
last token, "directions": repeng's, "versions"}, and writes a GGUF file of its own to "back". Imports nothing of this
project.
"""

import json
import sys
from importlib.metadata import version

import torch


def main():
    told = json.loads(sys.stdin.readline())
    from repeng import ControlModel, ControlVector
    from safetensors.torch import load_file
    from steering_vectors import SteeringVector
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(told["folder"], torch_dtype=torch.float32).eval()
    ids = torch.tensor([told["ids"]])
    vector = SteeringVector({int(k): v for k, v in load_file(told["plain"]).items()}, "decoder_block")
    with torch.inference_mode(), vector.apply(model):
        steered = model(ids).logits[0, -1]
    control = ControlVector.import_gguf(told["gguf"])
    control.export_gguf(told["back"])
    wrapped = ControlModel(model, list(control.directions))
    wrapped.set_control(control, 1.0)
    with torch.inference_mode():
        controlled = wrapped(ids).logits[0, -1]
    answer = {
        "repeng": controlled.tolist(),
        "steering_vectors": steered.tolist(),
        "directions": {k: v.tolist() for k, v in control.directions.items()},
        "model_type": control.model_type,
        "versions": {p: version(p) for p in ("repeng", "steering-vectors", "gguf", "transformers", "torch")},
    }
    print("ANSWER " + json.dumps(answer))


if __name__ == "__main__":
    main()
