"""Runs in the environment of the other packages, which cannot share ours (they need transformers 4 and numpy 1).

Reads one JSON line {"folder", "texts", "threads"}, answers {"ready": true}; then for every line with the name of a way
reads all texts that way once and answers {"seconds", "norms"} (of the last token at the last layer but one). Imports
nothing of this project.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

import torch


def ways(folder, texts):
    """Name -> call: reads every layer, gives the last token's state of every text at the last layer but one."""
    from repeng.extract import batched_get_hiddens
    from steering_vectors.train_steering_vector import extract_activations
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    settings = json.loads((Path(folder) / "tokenizer_config.json").read_text())
    end = settings.get("eos_token")
    end = end["content"] if isinstance(end, dict) else end
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"), eos_token=end)
    tokenizer.pad_token = end
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    n = model.config.num_hidden_layers
    pairs = list(zip(texts[::2], texts[1::2]))  # noqa: B905 - also runs on old Pythons

    def steering_vectors(batch_size):
        positive, negative = extract_activations(model, tokenizer, pairs, batch_size=batch_size, move_to_cpu=True)
        a, b = torch.cat(positive[n - 2]), torch.cat(negative[n - 2])
        return torch.stack([a, b], 1).flatten(0, 1)

    def repeng():
        return torch.from_numpy(batched_get_hiddens(model, tokenizer, texts, list(range(n)), 32)[n - 2])

    return {
        "steering-vectors": lambda: steering_vectors(1),
        "steering-vectors, batches of 16": lambda: steering_vectors(16),
        "repeng": repeng,
    }


def main():
    told, answers = json.loads(sys.stdin.readline()), sys.stdout
    torch.set_num_threads(told["threads"])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = ways(told["folder"], told["texts"])
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            states = found[line.strip()]()
            seconds = time.perf_counter() - start
            norms = [float(v) for v in states.float().norm(dim=-1)]
            print(json.dumps({"seconds": seconds, "norms": norms}), file=answers, flush=True)


if __name__ == "__main__":
    main()
