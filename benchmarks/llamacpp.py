"""Our control vectors in llama.cpp itself: is `direction.k` what we call layer k, and scale 1 the dose we wrote?

    python -m benchmarks.llamacpp             (Linux x86_64; LENS_EMOTION_PEERS keeps what it installs)
    python -m benchmarks --only llamacpp --peers --model FOLDER      (a Llama: which is faster, on the same 8 bits)

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
from unittest.mock import patch

import numpy as np
import torch

import lens_emotion as le
from benchmarks.interchange import DOSE, PROMPT, TOLERANCE
from benchmarks.measure import Call, Options, Row, Sample, Skipped, interleaved
from benchmarks.peers import ENVIRONMENT
from benchmarks.subjects import TINY
from lens_emotion.models import decoding
from lens_emotion.models.loading import resolve
from lens_emotion.models.prompting import encode
from lens_emotion.steering.generate import Condition, generate_steered

PACKAGES = ("xllamacpp==2026.10.11549", "llama-cpp-py-sync==0.11548")  # the same llama.cpp but for one build
LOADER = "_Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE"
TYPES = f"""
typedef struct {{ float strength; char *fname; }} cv_info;
typedef struct {{ cv_info *begin, *end, *room; }} cv_infos;
typedef struct {{ int n_embd; float *begin, *end, *room; }} cv_data;
void {LOADER}(cv_data *, cv_infos *);
"""
THEIRS = "llama.cpp, Q8_0"
Run = Callable[..., Any]


def write_model(path: Path, folder: str, quantise: bool = False) -> Any:
    """A Llama as llama.cpp reads it: float32 or Q8_0, no vocabulary, queries and keys in its order of rotary pairs.

    Returns:
        The same weights in transformers, rounded to 8 bits where they were.
    """
    import gguf
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    c, state, kind = plain.config, {k: v.numpy() for k, v in plain.state_dict().items()}, gguf.GGMLQuantizationType.Q8_0

    def add(name: str, weight: np.ndarray) -> None:
        if quantise and weight.ndim == 2:
            out.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            out.add_tensor(name, weight)

    if quantise:
        for weight in state.values():  # they are the model's own memory
            if weight.ndim == 2:
                weight[:] = gguf.quants.dequantize(gguf.quants.quantize(weight, kind), kind)
    out, head = gguf.GGUFWriter(path, "llama"), getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    numbers = {
        "block_count": c.num_hidden_layers, "context_length": c.max_position_embeddings, "vocab_size": c.vocab_size,
        "embedding_length": c.hidden_size, "feed_forward_length": c.intermediate_size,
        "head_count": c.num_attention_heads, "head_count_kv": c.num_key_value_heads, "rope_dimension_count": head,
        "key_length": head, "value_length": head, "rope_freq_base": c.rope_parameters["rope_theta"],
        "layer_norm_rms_eps": c.rms_norm_eps, "tokenizer_model": "none",
    }  # fmt: skip
    for name, value in numbers.items():
        getattr(out, f"add_{name}")(value)
    add("token_embd.weight", state["model.embed_tokens.weight"])
    add("output_norm.weight", state["model.norm.weight"])
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
            add(f"blk.{layer}.{theirs}.weight", weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return plain


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


def runner(ffi: Any, lib: Any, model_file: Path, ids: list[int], n_layers: int, threads: int = 1) -> Run:
    """A function from a control vector file (None: none) to the logits of the last token, or what it then writes."""
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(model_file).encode(), lib.llama_model_default_params())
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 256, threads, threads

    def run(file: str | None, new: int = 0) -> Any:
        context = lib.llama_init_from_model(model, settings)
        if file is not None:
            name, info, data = ffi.new("char[]", file.encode()), ffi.new("cv_info *"), ffi.new("cv_data *")
            info.strength, info.fname = 1.0, name
            getattr(lib, LOADER)(data, ffi.new("cv_infos *", [info, info + 1, info + 1]))
            if data.n_embd < 1:
                raise SystemExit("llama.cpp refuses the control vector")
            size = data.end - data.begin
            assert lib.llama_set_adapter_cvec(context, data.begin, size, data.n_embd, 1, n_layers) == 0
        n = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        given, written = ids, []
        for _ in range(max(new, 1)):
            assert lib.llama_decode(context, lib.llama_batch_get_one(ffi.new("int32_t[]", given), len(given))) == 0
            logits = np.frombuffer(ffi.buffer(lib.llama_get_logits_ith(context, -1), 4 * n), np.float32)
            given = [int(logits.argmax())]
            written += given
        logits = logits.copy()
        lib.llama_free(context)
        return tuple(written) if new else torch.from_numpy(logits)

    return run


def table(folder: Path) -> dict[int, dict[int, float]]:
    """How far llama.cpp with `direction.k` is from `le.steer` at each layer, as a share of the largest logit."""
    model = le.load_model(TINY, device="cpu")
    ids, n = encode(model, PROMPT), int(model.cfg.n_layers)
    vector = le.emotion_vectors(le.extract_comprehension(model, progress=False))["angry"]
    write_model(folder / "tiny.gguf", str(resolve(TINY).location))
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


def rows(options: Options) -> list[Row]:
    """A steered text, and a batch of them, against llama.cpp with the same control vector on the same 8-bit weights."""
    if not (options.peers and options.models):
        raise Skipped("needs --peers (installs llama.cpp) and --model FOLDER, a Llama")
    return [row for folder in options.models for row in _speed(folder, options)]


def _speed(folder: str, options: Options) -> list[Row]:
    from transformers import AutoTokenizer

    n, many = (4, 4) if options.quick else (32, 16)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "model.gguf"
        plain = write_model(file, folder, quantise=True)
        model = le.wrap(plain.eval(), AutoTokenizer.from_pretrained(folder), name=Path(folder).name)
        ids, layer = encode(model, PROMPT), int(model.cfg.n_layers) // 2
        texts = le.load_stimuli("passages").only(emotions=("angry", "calm", "sad"))
        vector = le.emotion_vectors(le.extract_comprehension(model, texts.only(topics=texts.topics[:2])))["angry"]
        added = str(le.to_gguf(vector, Path(temporary) / "vector.gguf", DOSE, layer))
        lib = library(Path(os.environ.get(ENVIRONMENT) or temporary))
        theirs = runner(*lib, file, ids, int(model.cfg.n_layers), options.threads)
        how: dict[str, Any] = {"max_new_tokens": n, "progress": False}
        with patch.object(decoding, "stop_ids", lambda model: torch.tensor([-1])):  # nobody may stop early
            ways: dict[str, Call] = {
                "ours": lambda: generate_steered(model, [Condition(PROMPT, vector, DOSE)], (layer,), **how),
                "batch": lambda: generate_steered(model, [Condition(PROMPT, vector, DOSE)] * many, (layer,), **how),
                THEIRS: lambda: theirs(added, n),
            }
            ours, written = ways["ours"]()[0].new_ids, ways[THEIRS]()
            samples = interleaved(ways, min(3, options.repeats), warm_up=False)
    same = next((i for i, pair in enumerate(zip(ours, written, strict=True)) if pair[0] != pair[1]), n)
    note = f"llama.cpp computes with 8 bits, we in float32 with the same weights; the first {same} tokens are the same"
    one = Row.measured(
        "llamacpp", f"1 steered text of {n} tokens, {model.lens_emotion_name}", samples, "ours", THEIRS, note=note
    )
    each = Sample(*(tuple(many * t for t in times) for times in (samples[THEIRS].times, (), samples[THEIRS].cpu)))
    what = f"{many} steered texts of {n} tokens, {model.lens_emotion_name}"
    return [one, Row.measured("llamacpp", what, samples | {THEIRS: each}, "batch", THEIRS, note="theirs one by one")]


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
