"""Where the weights of a model go, in which precision, in how many bits: one device, every GPU there is, 8 or 4 bit."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from lens_emotion.errors import UnsupportedModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTISED = ("8bit", "4bit")
EVERY_GPU = "auto"


def choose_device(device: str | int | torch.device | None) -> str:
    """The device asked for, or ("auto", None) CUDA, then MPS, then CPU, whichever is there first.

    Raises:
        UnsupportedModelError: no such device, or not on this machine.
    """
    if device is None or device == EVERY_GPU:
        return "cuda" if _sees("cuda") else "mps" if _sees("mps") else "cpu"
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError):
        raise UnsupportedModelError(f"no device '{device}'; use cpu, cuda, cuda:1, mps or auto") from None
    if not _sees(asked.type):
        raise UnsupportedModelError(
            f"device '{device}' was asked for, but this PyTorch sees no {asked.type} device; use device='cpu'"
        )
    count = torch.cuda.device_count() if asked.type == "cuda" else 1
    if (asked.index or 0) >= count:
        last = f"{asked.type}:{count - 1}" if count > 1 else asked.type
        raise UnsupportedModelError(f"no device '{device}'; the last of its kind here is {last}")
    return str(asked)


def _sees(kind: str) -> bool:
    """Whether PyTorch can compute on this kind of device here."""
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return kind == "cpu" or bool(getattr(module, "is_available", lambda: False)())


def choose_dtype(dtype: str | torch.dtype, device: str, family: str) -> torch.dtype:
    """Resolve a precision. "auto": float32 on CPU and MPS, bfloat16 on CUDA.

    Raises:
        UnsupportedModelError: an unknown name, or float16 for Gemma (its deep layers reach norms near 10^5, beyond
            what float16 holds).
    """
    if dtype == "auto":
        chosen = torch.bfloat16 if device.startswith("cuda") else torch.float32
    elif isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1:
        chosen = dtype
    elif isinstance(dtype, str) and dtype in DTYPES:
        chosen = DTYPES[dtype]
    else:
        raise UnsupportedModelError(f"unknown dtype '{dtype}'; use auto, {', '.join(DTYPES)}")
    if chosen == torch.float16 and family == "gemma":
        raise UnsupportedModelError(
            "float16 overflows in Gemma's residual stream (norms near 10^5); use dtype='bfloat16' or 'float32'"
        )
    return chosen


NO_SMALLER = "raise the limit or end other programs: a model this small takes little beside the libraries"


def lighter_than(dtype: str | torch.dtype, device: str, whole: bool) -> str:
    """What takes less memory here, in words: precision, width, device; a `whole` model is one that can be quantised."""
    wide = dtype in ("float32", torch.float32) or (dtype == "auto" and not device.startswith("cuda"))
    ways = ["dtype bfloat16 (half of float32)"] if wide else []
    if device.startswith("cuda"):
        ways += ["quantise 4bit"] if whole and importlib.util.find_spec("bitsandbytes") else []
        ways += ["device auto (every GPU)"] if torch.cuda.device_count() > 1 else []
        ways += ["device cpu"]
    elif torch.cuda.is_available():
        ways += ["device cuda"]
    return f"what needs less: {', '.join([*ways, 'a smaller model'])}"


def check_quantise(quantise: str | None) -> None:
    """Refuse what this machine cannot do, before anything is loaded.

    Raises:
        UnsupportedModelError: an unknown width, or a package that is missing.
    """
    if quantise is None:
        return
    if quantise not in QUANTISED:
        raise UnsupportedModelError(f"unknown quantisation '{quantise}'; use {' or '.join(QUANTISED)}")
    _needs("bitsandbytes", f"quantise='{quantise}'")
    _needs("accelerate", f"quantise='{quantise}'")


def check_placement(device: str | torch.device | None, quantise: str | None, backend: str, gguf: bool) -> None:
    """Refuse combinations that cannot be loaded.

    Raises:
        UnsupportedModelError: see its message.
    """
    check_quantise(quantise)
    if quantise and gguf:
        raise UnsupportedModelError(
            "a .gguf file is quantised already, and dequantised when it is read; leave quantise out"
        )
    spread = over_gpus(device)
    if backend == "hooked" and (quantise or spread):
        raise UnsupportedModelError(
            "backend='hooked' copies weights into one device, unquantised; use backend='bridge' for 8 or 4 bit and for "
            "several GPUs"
        )
    if spread:
        _needs("accelerate", "device='auto' on several GPUs")


def over_gpus(device: str | torch.device | None) -> bool:
    """Whether a model is spread over GPUs: asked for, and more than one there."""
    return device == EVERY_GPU and torch.cuda.device_count() > 1


def loading_options(place: str, quantise: str | None, dtype: torch.dtype, spread: bool) -> dict[str, Any]:
    """What `from_pretrained` is told: nothing for one device, else a device map and the widths."""
    options: dict[str, Any] = {}
    if spread:
        # GPUs alone: a Bridge takes no model that lies on GPUs and the CPU at once
        free = {i: torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())}
        options = {"device_map": "auto", "max_memory": {i: int(0.9 * n) for i, n in free.items()}}
    if quantise:
        from transformers import BitsAndBytesConfig

        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        options.setdefault("device_map", {"": place})
        options["quantization_config"] = BitsAndBytesConfig(**(four if quantise == "4bit" else {"load_in_8bit": True}))
    return options


def _needs(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UnsupportedModelError(
            f"{what} needs the package {package}, which is not installed; pip install {package}"
        )
