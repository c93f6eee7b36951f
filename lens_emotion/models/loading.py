"""load_model: hub names, local Hugging Face folders, GGUF files and the tiny five -> a TransformerLens model.

Always in the raw basis: `resid_post` equals the Hugging Face hidden state, so that vectors carry over between backends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from lens_emotion.errors import ModelUnavailableError, UnknownModelError, UnsupportedModelError
from lens_emotion.files.read import read_start
from lens_emotion.memory import pass_on, room_for
from lens_emotion.models import hooked
from lens_emotion.models.access import (
    Model,
    architecture_of,
    backend_of,
    describe,
    family_of,
    holds_model,
    shown_kind,
    way_in,
)
from lens_emotion.models.catalog import TINY, ModelSpec, find_spec, unknown_model
from lens_emotion.models.checkpoint import (
    CONFIG,
    check_folder,
    check_kind,
    check_loaded,
    check_one_meaning,
    check_vocabulary,
    read_config,
    row_of_folder,
    weight_files,
)
from lens_emotion.models.conversion import LONGEST, Trace, check_conversion, check_finite_source, trace_of
from lens_emotion.models.first_token import first_token, keep_rule, measure_rule
from lens_emotion.models.identity import check_every_tensor, remember_source
from lens_emotion.models.placement import (
    NO_SMALLER,
    check_placement,
    choose_device,
    choose_dtype,
    lighter_than,
    loading_options,
    over_gpus,
)
from lens_emotion.models.skeleton import check_skeleton
from lens_emotion.models.templates import check_switches, switches
from lens_emotion.progress import unheard

BACKENDS = ("auto", "bridge", "hooked")
_PATH = re.compile(r"^[./~]|/$|\\|/.*/")  # what is written as a path is one
_HUB_ID = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?/[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder, a GGUF file in a folder, or a hub repository; `spec` is the row of the
    catalog that it is, if it is one."""

    label: str
    location: str
    gguf_file: str | None = None
    on_hub: bool = False
    gated: bool = False
    spec: ModelSpec | None = None


def resolve(name: str | os.PathLike[str]) -> Source:
    """Find out what `name` means, without loading anything.

    A name of the catalog means that model, a path (`./gpt2`, or a `Path`) what lies there.

    Raises:
        UnknownModelError: not in the catalog, not a hub id, not a folder or file (near matches are listed), or both a
            name of the catalog and another model's folder.
        ModelUnavailableError: a path that does not exist, a folder that is not whole.
        UnsupportedModelError: a folder, or a cached repository, with a model of another kind (`check_kind`).
    """
    if hasattr(name, "cfg") and hasattr(name, "run_with_hooks"):
        raise UnknownModelError(f"{shown_kind(name)} is a loaded model: use it as it is, where a model is asked for")
    if holds_model(name):
        raise UnknownModelError(f"{shown_kind(name)} is a model object, load_model takes a name; {way_in(name)}")
    spelt = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(spelt, str) or not spelt.strip():
        raise UnknownModelError(
            f"{spelt!r} names no model; give a name from `lens-emotion models`, a hub id such as org/model, a folder "
            "with config.json, or a .gguf file"
        )
    path = Path(os.path.expanduser(spelt))  # unlike Path.expanduser, leaves ~nobody as it is
    if isinstance(name, str):
        check_one_meaning(name, path)
        if (spec := find_spec(name)) is not None:
            return _of_hub(spec.hub_id, spec) if spec.hub_id else Source(spec.name, str(tiny_folder(spec)), spec=spec)
    if (found := _at(path)) is not None:
        return found
    if "://" in spelt:
        raise UnknownModelError(f"'{spelt}' is an address; give the hub id in it, such as org/model")
    if not isinstance(name, str) or _PATH.search(spelt):
        raise ModelUnavailableError(f"no folder {path}; give an existing Hugging Face model folder or a hub id")
    if "/" in spelt:
        return _of_hub(spelt)
    raise unknown_model(spelt)


def _at(path: Path) -> Source | None:
    """The model in a folder or a GGUF file; None where neither is."""
    if _is(path, "dir"):
        return _local_folder(path)
    if path.suffix.lower() == ".gguf":
        if not _is(path, "file"):
            raise ModelUnavailableError(f"no file {path}; give the path of an existing .gguf file")
        _check_magic(path)
        label = path.stem if find_spec(path.stem) is None else path.name  # not the model known by that name
        return Source(label, str(path.parent), gguf_file=path.name)
    if _is(path, "file"):
        raise ModelUnavailableError(f"{path} is a file; give the folder that it lies in, or a .gguf file")
    return None


def _check_magic(path: Path) -> None:
    """Raises ModelUnavailableError for a .gguf file that does not begin as one."""
    begins = read_start(path, 24, ModelUnavailableError, "change its permissions")
    if len(begins) < 24 or begins[:4] != b"GGUF":
        what = "is empty" if not begins else "is cut off" if b"GGUF".startswith(begins[:4]) else "is no GGUF file"
        raise ModelUnavailableError(f"{path} {what}; copy it anew, or give the model's folder")


def _is(path: Path, kind: str) -> bool:
    """Whether there is such a file or folder; no for a name that no path can have (too long, with NUL)."""
    try:
        return path.is_dir() if kind == "dir" else path.is_file()
    except ValueError:
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ModelUnavailableError(f"may not read {path} ({error.strerror}); change its permissions") from None
        return False


def _of_hub(hub_id: str, spec: ModelSpec | None = None) -> Source:
    """A repository of the hub; what is cached of it is looked at."""
    from huggingface_hub import try_to_load_from_cache

    check_hub_id(hub_id)
    cached = try_to_load_from_cache(hub_id, CONFIG)
    if isinstance(cached, str):
        check_kind(read_config(Path(cached)), hub_id, hub_id)
    return Source(hub_id, hub_id, on_hub=True, gated=spec is not None and spec.gated, spec=spec)


def tiny_folder(spec: ModelSpec) -> Path:
    """Folder of a model that ships with the package."""
    folder = Path(str(resources.files("lens_emotion.models").joinpath("tiny", spec.name)))
    if not (folder / "model.safetensors").is_file():
        raise ModelUnavailableError(
            f"the weights of {spec.name} are missing from {folder}; reinstall lens-emotion, or train them with "
            f"python scripts/train_tiny.py {spec.name}"
        )
    return folder


def check_hub_id(name: str) -> None:
    """Raises UnknownModelError for what cannot be the id of a hub repository."""
    if not re.fullmatch(_HUB_ID, name) or len(name) > 96 or ".." in name or "--" in name:
        raise UnknownModelError(
            f"'{name}' is no hub id (org/model: letters, digits, and - _ . inside, at most 96) and no folder here"
        )


def _local_folder(path: Path) -> Source:
    label = path.resolve().name or "model"
    try:
        config = check_folder(path, label)
    except PermissionError as error:
        raise ModelUnavailableError(f"may not read {error.filename or path}; change its permissions") from None
    spec = row_of_folder(path, config)
    if find_spec(label) not in (None, spec):
        label = f"{label}-local"  # another model than the one that is known by this name
    return Source(label, str(path), spec=spec)


def load_model(
    name: str | os.PathLike[str],
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
        revision: branch, tag or commit of a hub model; refused for what is not on the hub.
        quantise: "8bit" or "4bit" through bitsandbytes, where the platform has it. Results are about those weights.
        template: switches of the chat template, before those of the catalog: {"enable_thinking": True} lets Qwen3
            think, {"chat_template": "NAME"} takes one of several templates, or a Jinja text instead of them.

    Returns:
        A TransformerLens model in evaluation mode, in the raw basis.

    Raises:
        UnknownModelError, ModelUnavailableError, UnsupportedModelError, OutOfMemoryError: see their messages.
        StimulusError: `template` names what the model's chat template does not know.

    Example:
        >>> model = le.load_model("tiny-llama", device="cpu")
        >>> model.cfg.n_layers, model.cfg.d_model
        (6, 64)
    """
    if backend not in BACKENDS:
        raise UnsupportedModelError(f"unknown backend '{backend}'; use {', '.join(BACKENDS)}")
    if backend == "hooked" and not hooked.available():
        raise UnsupportedModelError(f"backend='hooked' is not available. {hooked.REMEDY}")
    source = resolve(name)
    check_placement(device, quantise, backend, source.gguf_file is not None)
    place = choose_device(device)
    tiny = source.spec is not None and source.spec.millions < 10
    less = partial(lighter_than, dtype, place, quantise is None and backend != "hooked")
    with room_for(f"loading {source.label}", (lambda: NO_SMALLER) if tiny else less), quiet_loading():
        check_reachable(source, revision)
        config = config_of_source(source, revision)
        check_fits(source, config)
        family = family_of(str((getattr(config, "architectures", None) or [""])[0]))
        precision = choose_dtype(dtype, place, family)
        tokenizer = tokenizer_of_source(source, revision)
        check_vocabulary(tokenizer, config, source.label)
        rule = measure_rule(tokenizer)  # before TransformerLens changes it
        check_switches(tokenizer, source.label, template or {})
        placed = loading_options(place, quantise, precision, over_gpus(device))
        hf_model = weights_of_source(source, precision, revision, **placed)
        hf_model = hf_model if placed else hf_model.to(place)
        options = {"tokenizer": tokenizer, "dtype": precision, "device": None if placed else place}
        model = _converted(hf_model, source.label, "hooked" if backend == "hooked" else "bridge", **options)
    model.lens_emotion_spec = source.spec
    model.lens_emotion_source = (name, revision)
    model.lens_emotion_placed = placed
    model.lens_emotion_config = config.to_dict()  # a HookedTransformer keeps none
    model.lens_emotion_generation = hf_model.generation_config  # a HookedTransformer has none
    keep_rule(model, rule)
    return remember(model, source.label, template or {})


def remember(model: Model, label: str, template: Mapping[str, Any]) -> Model:
    """Note on a model what it is called, the switches of its template, and what `describe` says of its tokens."""
    model.lens_emotion_name = label
    model.lens_emotion_template = dict(template)
    model.lens_emotion_tokens = {
        "first_token": first_token(model).words,
        "template": json.dumps(switches(model), default=str),
    }
    return model


def _converted(hf_model: Any, label: str, backend: str, **options: Any) -> Model:
    """A TransformerLens model that was seen to compute what the Hugging Face model computes.

    Raises:
        NotFiniteError: its states are NaN or infinite. UnsupportedModelError: the backend computes something else.
    """
    is_hooked = backend == "hooked"
    trace = trace_of(hf_model, options["tokenizer"], hooked.LONGEST_CONTEXT if is_hooked else LONGEST)
    if not is_hooked:
        return bridge_of(hf_model, trace, label, **options)
    check_finite_source(trace, label, options["dtype"])
    model = hooked.build_hooked(hf_model, options["tokenizer"], label, options["dtype"], options["device"])
    check_every_tensor(model, hf_model)
    remember_source(model, hf_model, architecture_of(model))
    check_conversion(model, trace, label, backend)
    return model


def bridge_of(hf_model: Any, trace: Trace, label: str, **options: Any) -> Model:
    """A Bridge around a Hugging Face model, seen to compute what the trace holds.

    Raises:
        NotFiniteError: its states are NaN or infinite.
        UnsupportedModelError: TransformerLens has no such architecture, or computes something else.
    """
    from transformer_lens.model_bridge import TransformerBridge

    check_finite_source(trace, label, options["dtype"])
    try:
        model = TransformerBridge.boot_transformers(label, hf_model=hf_model, **options).eval()
    except (ValueError, NotImplementedError) as error:
        pass_on(error)
        raise UnsupportedModelError(
            f"TransformerLens cannot wrap {label} ({type(hf_model).__name__}): {first_line(error)}"
        ) from None
    check_conversion(model, trace, label, "bridge")
    return model


def row_of(model: Model) -> ModelSpec | None:
    """The catalog row that a model is, not merely is called after; of one that `load_model` did not load: the row of
    the tiny model whose weights it has."""
    if hasattr(model, "lens_emotion_spec"):
        return model.lens_emotion_spec
    if not hasattr(model, "cfg"):
        backend_of(model)  # says how it comes in
    shape, family = (model.cfg.n_layers, model.cfg.d_model), family_of(architecture_of(model))
    for spec in TINY:
        if (spec.n_layers, spec.d_model, spec.family) == (*shape, family):
            theirs = describe(load_model(spec.name, device="cpu")).fingerprint
            return spec if theirs == describe(model).fingerprint else None
    return None


def is_cached(source: Source, revision: str | None = None) -> bool:
    """Whether a hub model has been fetched before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source.location, CONFIG, revision=revision), str)


def check_reachable(source: Source, revision: str | None = None, timeout: float = 5.0) -> None:
    """Ask the hub once, briefly, for a model that is not cached: transformers would retry for half a minute.

    Raises:
        ModelUnavailableError: no such repository or revision, gated, or the hub cannot be reached.
        UnsupportedModelError: a revision of something that is not on the hub.
    """
    if revision is not None and not (source.on_hub and revision.strip()):
        where = f"{source.label} comes from {source.location}" if revision.strip() else "it is empty"
        raise UnsupportedModelError(
            f"revision '{revision}' is a branch, tag or commit of a hub repository, but {where}; leave it out"
        )
    if not source.on_hub:
        return
    from huggingface_hub import HfApi

    if is_cached(source, revision):
        return
    try:
        HfApi().model_info(source.location, revision=revision, timeout=timeout)
    except Exception as error:  # the hub's, httpx's and the socket's errors share no base class
        raise _unavailable(source, error, revision) from error


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
        raise _unavailable(source, error, revision) from error


def tokenizer_of_source(source: Source, revision: str | None) -> Any:
    """The tokenizer that belongs to a source."""
    from transformers import AutoTokenizer

    return _from_pretrained(AutoTokenizer, source, revision)


def config_of_source(source: Source, revision: str | None) -> Any:
    """The Hugging Face config of a source.

    Raises:
        ModelUnavailableError: it cannot be had. UnsupportedModelError: of a model that is no decoder (`check_kind`).
    """
    from transformers import AutoConfig

    config = _from_pretrained(AutoConfig, source, revision)
    if source.gguf_file:  # whose metadata names a type alone
        config.architectures = config.architectures or [causal_class(config.model_type)]
    check_kind(config.to_dict(), source.label, source.location)
    return config


def check_fits(source: Source, config: Any) -> None:
    """Whether a model can be made of its config and, in a folder, is that of the weights there (`check_skeleton`).

    Raises:
        ModelUnavailableError, UnsupportedModelError: see their messages.
    """
    local = not (source.on_hub or source.gguf_file)
    check_skeleton(config, source.label, weight_files(Path(source.location)) if local else ())


def weights_of_source(source: Source, dtype: torch.dtype, revision: str | None, **placed: Any) -> Any:
    """The plain Hugging Face model, in evaluation mode, with eager attention."""
    from transformers import AutoModelForCausalLM

    # eager attention: the Bridge hooks attention scores and patterns, and agrees with Hugging Face eager to the bit
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "eager"} | placed
    if not source.gguf_file:
        options["use_safetensors"] = True
    model, info = _from_pretrained(AutoModelForCausalLM, source, revision, output_loading_info=True, **options)
    check_loaded(info, source.label, model.config.get_text_config().num_hidden_layers)
    return model.eval()


def causal_class(model_type: str) -> str:
    """The class that transformers reads a type of decoder with, or the type itself."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return str(dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES).get(model_type, model_type))


def _unavailable(source: Source, error: Exception, revision: str | None = None) -> ModelUnavailableError:
    kinds = {type(e).__name__ for e in _chain(error)}
    text = " ".join(str(e).lower() for e in _chain(error))
    if "GatedRepoError" in kinds or "gated repo" in text:
        return _gated(source)
    if not source.on_hub:
        return _damaged(source, error, text)
    if "RevisionNotFoundError" in kinds:
        return ModelUnavailableError(
            f"the hub's {source.label} has no revision '{revision}'; leave it out for its main"
        )
    if "RepositoryNotFoundError" in kinds or "404" in text:
        near = unknown_model(source.label)
        return ModelUnavailableError(f"the hub has no repository '{source.label}' (or it is private). {near}")
    if source.gated:
        return _gated(source, "or the hub cannot be reached from here. ")
    return ModelUnavailableError(
        f"cannot fetch {source.label}{f' at revision {revision}' if revision else ''} from the hub "
        f"({first_line(error)}); check the connection (HF_HUB_OFFLINE, proxy) "
        "or give a local folder with config.json, safetensors and tokenizer"
    )


def _damaged(source: Source, error: Exception, text: str) -> ModelUnavailableError:
    """What is wrong with a folder or a file, and the remedy that fits."""
    place, why = Path(source.location, source.gguf_file or ""), first_line(error)
    if why.endswith(":"):  # and what follows says what
        why = " ".join(str(error).split())[:200]
    remedy = "it may be incomplete or its weights truncated, copy it anew"
    if "ignore_mismatched_sizes" in text:
        why, remedy = "config.json tells of other sizes than the weights have", "copy weights and config of one model"
    elif "does not recognize this architecture" in text:
        why, remedy = why[: why.find(". This could be")], "a newer transformers may know it; code of its own is not run"
    elif "controlvector" in text:
        why = "it is a control vector, no model"
        remedy = "`lens-emotion vectors import` reads one; give the model it was made on"
    return ModelUnavailableError(f"cannot load {source.label} from {place}: {why}; {remedy}")


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
        with warnings.catch_warnings(), unheard():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(root_level)
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
