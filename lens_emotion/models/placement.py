"""Where the weights of a model go, and in how many bits: one device, every GPU there is, 8 or 4 bit."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from lens_emotion.errors import UnsupportedModelError

QUANTISED = ("8bit", "4bit")
EVERY_GPU = "auto"


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
    if find_spec(package) is None:
        raise UnsupportedModelError(
            f"{what} needs the package {package}, which is not installed; pip install {package}"
        )
