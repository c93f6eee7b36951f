"""load_model: hub names, local Hugging Face folders, GGUF files and the tiny five -> a TransformerLens model.

Always in the raw basis: `resid_post` equals the Hugging Face hidden state, so that vectors carry over between backends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from lens_emotion.errors import ModelUnavailableError, UnsupportedModelError
from lens_emotion.models import hooked
from lens_emotion.models.access import Model, family_of
from lens_emotion.models.catalog import ModelSpec, find_spec, unknown_model
from lens_emotion.models.conversion import LONGEST, check_conversion, check_finite_source, trace_of
from lens_emotion.models.first_token import first_token, keep_rule, measure_rule
from lens_emotion.models.templates import check_switches, switches

BACKENDS = ("auto", "bridge", "hooked")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder, a GGUF file in a folder, or a hub repository."""

    label: str
    location: str
    gguf_file: str | None = None
    on_hub: bool = False
    gated: bool = False


def resolve(name: str) -> Source:
    """Find out what `name` means, without loading anything.

    Raises:
        UnknownModelError: not in the catalog, not a hub id, not a folder or file; near matches are listed.
        ModelUnavailableError: a folder without config.json or tokenizer, a path that does not exist.
    """
    spec = find_spec(name)
    if spec is not None and not spec.hub_id:
        return Source(spec.name, str(tiny_folder(spec)))
    path = Path(name).expanduser()
    if name.lower().endswith(".gguf"):
        if not path.is_file():
            raise ModelUnavailableError(f"no file {path}; give the path of an existing .gguf file")
        return Source(path.stem, str(path.parent), gguf_file=path.name)
    if path.is_dir():
        return _local_folder(path)
    if spec is not None:
        return Source(spec.hub_id, spec.hub_id, on_hub=True, gated=spec.gated)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelUnavailableError(f"no folder {path}; give an existing Hugging Face model folder or a hub id")
    if name.count("/") == 1 and all(name.split("/")):
        return Source(name, name, on_hub=True)
    raise unknown_model(name)


def tiny_folder(spec: ModelSpec) -> Path:
    """Folder of a model that ships with the package."""
    folder = Path(str(resources.files("lens_emotion.models").joinpath("tiny", spec.name)))
    if not (folder / "model.safetensors").is_file():
        raise ModelUnavailableError(
            f"the weights of {spec.name} are missing from {folder}; reinstall lens-emotion, or train them with "
            f"python scripts/train_tiny.py {spec.name}"
        )
    return folder


def _local_folder(path: Path) -> Source:
    if not (path / "config.json").is_file():
        raise ModelUnavailableError(
            f"{path} has no config.json, so it is not a Hugging Face model folder; for a GGUF file give the file itself"
        )
    if not any((path / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelUnavailableError(
            f"{path} has no tokenizer (none of {', '.join(_TOKENIZER_FILES[:3])}); copy the tokenizer files of the "
            "original model into it"
        )
    if not any(path.glob("*.safetensors")):
        raise ModelUnavailableError(
            f"{path} has no .safetensors weights (pickled .bin files are not loaded); convert them with "
            "model.save_pretrained(folder)"
        )
    return Source(path.resolve().name, str(path))


def choose_device(device: str | torch.device | None) -> str:
    """The device asked for, or ("auto", None) CUDA, then MPS, then CPU, whichever is there first."""
    if device is None or device == EVERY_GPU:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise UnsupportedModelError(
            "device 'cuda' was asked for, but this PyTorch sees no CUDA device; use device='cpu'"
        )
    return str(device)


def choose_dtype(dtype: str | torch.dtype, device: str, family: str) -> torch.dtype:
    """Resolve a precision. "auto": float32 on CPU and MPS, bfloat16 on CUDA.

    Raises:
        UnsupportedModelError: an unknown name, or float16 for Gemma (its deep layers reach norms near 10^5, beyond
            what float16 holds).
    """
    if dtype == "auto":
        chosen = torch.bfloat16 if device.startswith("cuda") else torch.float32
    elif isinstance(dtype, torch.dtype):
        chosen = dtype
    elif dtype in DTYPES:
        chosen = DTYPES[dtype]
    else:
        raise UnsupportedModelError(f"unknown dtype '{dtype}'; use auto, {', '.join(DTYPES)}")
    if chosen == torch.float16 and family == "gemma":
        raise UnsupportedModelError(
            "float16 overflows in Gemma's residual stream (norms near 10^5); use dtype='bfloat16' or 'float32'"
        )
    return chosen


def load_model(
    name: str,
    *,
    backend: str = "auto",
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    revision: str | None = None,
    quantise: str | None = None,
    template: Mapping[str, Any] | None = None,
) -> Model:
    """Load a model for reading and steering.

    Args:
        name: a catalog name ("tiny-llama", "gpt2", ...), a hub id, a local Hugging Face folder, or a .gguf file
            (dequantised through transformers; needs the package `gguf`).
        backend: "auto" or "bridge" for a TransformerBridge; "hooked" for a HookedTransformer (TransformerLens 3.x).
        dtype: "auto" (float32 on CPU and MPS, bfloat16 on CUDA), "float32", "bfloat16", "float16" or a torch dtype.
        device: "cpu", "cuda", "mps"; None takes the best there is, "auto" spreads the blocks over every GPU.
        revision: branch, tag or commit of a hub model.
        quantise: "8bit" or "4bit" through bitsandbytes, where the platform has it. Results are about those weights.
        template: switches of the chat template, before those of the catalog: {"enable_thinking": True} lets Qwen3
            think, {"chat_template": "NAME"} takes one of several templates, or a Jinja text instead of them.

    Returns:
        A TransformerLens model in evaluation mode, in the raw basis.

    Raises:
        UnknownModelError, ModelUnavailableError, UnsupportedModelError: see their messages.
        StimulusError: `template` names what the model's chat template does not know.
    """
    if backend not in BACKENDS:
        raise UnsupportedModelError(f"unknown backend '{backend}'; use {', '.join(BACKENDS)}")
    if backend == "hooked" and not hooked.available():
        raise UnsupportedModelError(f"backend='hooked' is not available. {hooked.REMEDY}")
    source = resolve(name)
    check_placement(device, quantise, backend, source.gguf_file is not None)
    place = choose_device(device)
    with quiet_loading():
        check_reachable(source)
        from transformers import AutoConfig

        config = _from_pretrained(AutoConfig, source, revision)
        family = family_of(str((getattr(config, "architectures", None) or [""])[0]))
        precision = choose_dtype(dtype, place, family)
        tokenizer = tokenizer_of_source(source, revision)
        rule = measure_rule(tokenizer)  # before TransformerLens changes it
        check_switches(tokenizer, source.label, template or {})
        placed = loading_options(place, quantise, precision, over_gpus(device))
        hf_model = weights_of_source(source, precision, revision, **placed)
        hf_model = hf_model if placed else hf_model.to(place)
        kind = "hooked" if backend == "hooked" else "bridge"
        trace = trace_of(hf_model, tokenizer, hooked.LONGEST_CONTEXT if kind == "hooked" else LONGEST)
        check_finite_source(trace, source.label, precision)
        if backend == "hooked":
            model = hooked.build_hooked(hf_model, tokenizer, source.label, precision, place)
        else:
            from transformer_lens.model_bridge import TransformerBridge

            options = {"tokenizer": tokenizer, "dtype": precision, "device": None if placed else place}
            model = TransformerBridge.boot_transformers(source.label, hf_model=hf_model, **options).eval()
        check_conversion(model, trace, source.label, kind)
    model.lens_emotion_name = source.label
    model.lens_emotion_source = (name, revision)
    model.lens_emotion_generation = hf_model.generation_config  # a HookedTransformer has none
    model.lens_emotion_template = dict(template or {})
    keep_rule(model, rule)
    model.lens_emotion_tokens = _token_facts(model)
    return model


def _token_facts(model: Model) -> dict[str, str]:
    """What `describe` says of the model's tokens."""
    return {"first_token": first_token(model).words, "template": json.dumps(switches(model), default=str)}


def check_reachable(source: Source, timeout: float = 5.0) -> None:
    """Ask the hub once, briefly, for a model that is not cached: transformers would retry for half a minute.

    Raises:
        ModelUnavailableError: no such repository, gated, or the hub cannot be reached.
    """
    if not source.on_hub:
        return
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(source.location, "config.json"), str):
        return
    try:
        HfApi().model_info(source.location, timeout=timeout)
    except Exception as error:  # the hub's, httpx's and the socket's errors share no base class
        raise _unavailable(source, error) from error


def _from_pretrained(loader: Any, source: Source, revision: str | None, **options: Any) -> Any:
    if source.gguf_file:
        options["gguf_file"] = source.gguf_file
    if source.on_hub and revision:
        options["revision"] = revision
    try:
        return loader.from_pretrained(source.location, trust_remote_code=False, **options)
    except ImportError as error:
        raise ModelUnavailableError(f"cannot load {source.label}: {first_line(error)}") from None
    except Exception as error:  # transformers, safetensors and the hub raise many unrelated types here
        raise _unavailable(source, error) from error


def tokenizer_of_source(source: Source, revision: str | None) -> Any:
    """The tokenizer that belongs to a source."""
    from transformers import AutoTokenizer

    return _from_pretrained(AutoTokenizer, source, revision)


def config_of_source(source: Source, revision: str | None) -> Any:
    """The Hugging Face config of a source."""
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, source, revision)


def weights_of_source(source: Source, dtype: torch.dtype, revision: str | None, **placed: Any) -> Any:
    """The plain Hugging Face model, in evaluation mode, with eager attention."""
    from transformers import AutoModelForCausalLM

    # eager attention: the Bridge hooks attention scores and patterns, and agrees with Hugging Face eager to the bit
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "eager"} | placed
    if not source.gguf_file:
        options["use_safetensors"] = True
    return _from_pretrained(AutoModelForCausalLM, source, revision, **options).eval()


def _unavailable(source: Source, error: Exception) -> ModelUnavailableError:
    kinds = {type(e).__name__ for e in _chain(error)}
    text = " ".join(str(e).lower() for e in _chain(error))
    if "GatedRepoError" in kinds or "gated repo" in text:
        return _gated(source)
    if not source.on_hub:
        return ModelUnavailableError(
            f"cannot load {source.label} from {source.location}: {first_line(error)}; the folder may be incomplete or "
            "its weights truncated, copy it anew"
        )
    if "RepositoryNotFoundError" in kinds or "404" in text:
        near = unknown_model(source.label)
        return ModelUnavailableError(f"the hub has no repository '{source.label}' (or it is private). {near}")
    if source.gated:
        return _gated(source, "or the hub cannot be reached from here. ")
    return ModelUnavailableError(
        f"cannot fetch {source.label} from the hub ({first_line(error)}); check the connection (HF_HUB_OFFLINE, proxy) "
        "or give a local folder with config.json, safetensors and tokenizer"
    )


def _gated(source: Source, before: str = "") -> ModelUnavailableError:
    return ModelUnavailableError(
        f"{source.label} is gated {before}Accept its licence on its hub page and log in with `hf auth login`, or give "
        "a local folder"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without a trailing full stop, at most 200 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")[:200]


# Where the weights of a model go, and in how many bits: one device, every GPU there is, 8 or 4 bit.


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
    if importlib.util.find_spec(package) is None:
        raise UnsupportedModelError(
            f"{what} needs the package {package}, which is not installed; pip install {package}"
        )


# Silence while a model loads.


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the libraries' own progress bars, banners and advice while a model loads; restored afterwards."""
    from transformers.utils import logging as hf_logging

    verbosity = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    root_level = logging.root.level
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(root_level)
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
