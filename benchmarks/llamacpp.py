"""Our control vectors in llama.cpp itself: is `direction.k` what we call layer k, and scale 1 the dose we wrote?

    python -m benchmarks.llamacpp             (Linux x86_64; LENS_EMOTION_PEERS keeps what it installs)

llama.cpp is taken from a wheel that ships it (xllamacpp) and called through the declarations of another
(llama-cpp-py-sync), so that its own loader reads our file and its own graph adds it. tiny-llama is written as a float32
GGUF model. The wheel's strings have the old C++ layout (one pointer), which is all that is assumed of its memory.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lens_emotion as le
from benchmarks.interchange import DOSE, PROMPT, TOLERANCE
from benchmarks.peers import ENVIRONMENT
from benchmarks.subjects import TINY
from lens_emotion.models.loading import resolve
from lens_emotion.models.prompting import encode

PACKAGES = ("xllamacpp==2026.10.11549", "llama-cpp-py-sync==0.11548")  # the same llama.cpp but for one build
LOADER = "_Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE"
TYPES = f"""
typedef struct {{ float strength; char *fname; }} cv_info;
typedef struct {{ cv_info *begin, *end, *room; }} cv_infos;
typedef struct {{ int n_embd; float *begin, *end, *room; }} cv_data;
void {LOADER}(cv_data *, cv_infos *);
"""
Run = Callable[[str | None], torch.Tensor]


def write_model(path: Path) -> None:
    """tiny-llama as llama.cpp reads it: float32, no vocabulary, queries and keys in its order of rotary pairs."""
    import gguf
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(resolve(TINY).location, dtype=torch.float32)
    c, state = plain.config, {k: v.numpy() for k, v in plain.state_dict().items()}
    out = gguf.GGUFWriter(path, "llama")
    numbers = {
        "block_count": c.num_hidden_layers, "context_length": c.max_position_embeddings, "vocab_size": c.vocab_size,
        "embedding_length": c.hidden_size, "feed_forward_length": c.intermediate_size,
        "head_count": c.num_attention_heads, "head_count_kv": c.num_key_value_heads, "rope_dimension_count": c.head_dim,
        "key_length": c.head_dim, "value_length": c.head_dim, "rope_freq_base": c.rope_parameters["rope_theta"],
        "layer_norm_rms_eps": c.rms_norm_eps, "tokenizer_model": "none",
    }  # fmt: skip
    for name, value in numbers.items():
        getattr(out, f"add_{name}")(value)
    out.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    out.add_tensor("output_norm.weight", state["model.norm.weight"])
    parts = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    heads = {"attn_q": c.num_attention_heads, "attn_k": c.num_key_value_heads}
    for layer in range(c.num_hidden_layers):
        for theirs, ours in parts.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in heads:
                halves = weight.reshape(heads[theirs], 2, -1, weight.shape[1])
                weight = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
            out.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def library(folder: Path) -> tuple[Any, Any]:
    """cffi and llama.cpp, installed into a folder without touching the present environment."""
    target = folder / "llamacpp"
    if not target.exists():
        for wanted in (("--no-deps", *PACKAGES), ("cffi",)):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *wanted]
            subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    sys.path.append(str(target))
    spec = importlib.util.spec_from_file_location("declared", target / "llama_cpp_py_sync" / "_cffi_bindings.py")
    assert spec is not None and spec.loader is not None
    declared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(declared)
    declared.ffi.cdef(TYPES)
    return declared.ffi, declared.ffi.dlopen(str(next((target / "xllamacpp").glob("*.so"))))


def runner(ffi: Any, lib: Any, model_file: Path, ids: list[int], n_layers: int) -> Run:
    """A function from a control vector file (None: none) to the logits of the last token."""
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(model_file).encode(), lib.llama_model_default_params())
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 256, 1, 1

    def run(file: str | None) -> torch.Tensor:
        context = lib.llama_init_from_model(model, settings)
        if file is not None:
            name, info, data = ffi.new("char[]", file.encode()), ffi.new("cv_info *"), ffi.new("cv_data *")
            info.strength, info.fname = 1.0, name
            getattr(lib, LOADER)(data, ffi.new("cv_infos *", [info, info + 1, info + 1]))
            if data.n_embd < 1:
                raise SystemExit("llama.cpp refuses the control vector")
            size = data.end - data.begin
            assert lib.llama_set_adapter_cvec(context, data.begin, size, data.n_embd, 1, n_layers) == 0
        assert lib.llama_decode(context, lib.llama_batch_get_one(ffi.new("int32_t[]", ids), len(ids))) == 0
        n = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        logits = np.frombuffer(ffi.buffer(lib.llama_get_logits(context), 4 * n), np.float32).copy()
        lib.llama_free(context)
        return torch.from_numpy(logits)

    return run


def table(folder: Path) -> dict[int, dict[int, float]]:
    """How far llama.cpp with `direction.k` is from `le.steer` at each layer, as a share of the largest logit."""
    model = le.load_model(TINY, device="cpu")
    ids, n = encode(model, PROMPT), int(model.cfg.n_layers)
    vector = le.emotion_vectors(le.extract_comprehension(model, progress=False))["angry"]
    write_model(folder / "tiny.gguf")
    run = runner(*library(Path(os.environ.get(ENVIRONMENT) or folder)), folder / "tiny.gguf", ids, n)
    found: dict[int, dict[int, float]] = {}
    for k in range(1, n):
        theirs = run(str(le.to_gguf(vector, folder / f"{k}.gguf", DOSE, k)))
        found[k] = {}
        for layer in range(n):
            with torch.inference_mode(), le.steer(model, vector, DOSE, layers=layer):
                ours = model(torch.tensor([ids]))[0, -1]
            found[k][layer] = float((theirs - ours).abs().max() / ours.abs().max())
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        found = table(Path(temporary))
    print("llama.cpp with direction.K against le.steer at layer ...")
    for k, row in found.items():
        print(f"direction.{k}  " + "  ".join(f"{layer}: {apart:.1e}" for layer, apart in row.items()))
    met = all((apart <= TOLERANCE) == (layer == k) for k, row in found.items() for layer, apart in row.items())
    print("direction.K is layer K" if met else "THE NUMBERING DIFFERS")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
