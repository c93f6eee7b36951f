"""A model without its weights: made of its config on torch's "meta" device, and compared with what its files hold.

Costs some hundredths of a second, and tells before anything long what loading would: settings that no model can be made
of, an architecture that is not the type's, layers that the files lack, other sizes, weights that would not be used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lens_emotion.errors import ModelUnavailableError, UnsupportedModelError
from lens_emotion.files.read import check_regular
from lens_emotion.models.checkpoint import CONFIG, check_loaded

Shapes = Mapping[str, tuple[int, ...]]


def check_skeleton(config: Any, label: str, files: Sequence[Path] = ()) -> None:
    """Refuse a config that no model can be made of, or whose model is not the one whose weights the files hold.

    Args:
        config: of transformers.
        files: the safetensors files of its weights; none where they are elsewhere, or packed by another rule.

    Raises:
        ModelUnavailableError: see its message. UnsupportedModelError: the architecture named is not the type's.
    """
    plain = skeleton_of(config, label)
    named, made = str((config.architectures or [""])[0]), type(plain).__name__
    if named.lower() != made.lower() and not named.endswith("ForConditionalGeneration"):
        raise UnsupportedModelError(
            f'{label}: {CONFIG} names the architecture {named}, but its model_type "{config.model_type}" makes a '
            f"{made}; copy the config of the original model"
        )
    if files and not _stored_otherwise(config):
        _check_shapes(plain, shapes_of(files), label)


def skeleton_of(config: Any, label: str) -> nn.Module:
    """The model that a config describes, with shapes and without numbers.

    Raises:
        ModelUnavailableError: there is no such model.
    """
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    try:
        with torch.device("meta"), no_init_weights():
            made: Any = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager")
        made.tie_weights()  # which goes with the initialisation that is left out
        plain: nn.Module = made
        return plain
    except Exception as error:  # whatever a model's own code raises over a setting
        why = " ".join(str(error).split())[:200].rstrip(".") or "no reason given"
        raise ModelUnavailableError(
            f"{label}: no model can be made of its {CONFIG} ({type(error).__name__}: {why}); copy the config of the "
            "original model"
        ) from None


def shapes_of(files: Sequence[Path]) -> Shapes:
    """Name -> shape of every weight in safetensors files, from their headers.

    Raises:
        ModelUnavailableError: a file that is none.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(str(check_regular(path, ModelUnavailableError)), framework="pt") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelUnavailableError(f"cannot read the weights {path} ({error}); copy it anew") from None
    return found


def _stored_otherwise(config: Any) -> bool:
    """Whether transformers changes names or shapes while it loads: packed weights, renamed parts."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    packed = getattr(config, "quantization_config", None) is not None
    return (
        packed or config.get_text_config() is not config or bool(get_checkpoint_conversion_mapping(config.model_type))
    )


def _check_shapes(plain: nn.Module, held: Shapes, label: str) -> None:
    """The names of a bare model's file lack the first part ("transformer."), as GPT-2's on the hub do."""
    prefix = f"{getattr(plain, 'base_model_prefix', '')}."
    known = {name: tuple(t.shape) for name, t in plain.state_dict().items()}
    own = {name if name in known or prefix + name not in known else prefix + name: s for name, s in held.items()}
    asked = [name for name, _ in plain.named_parameters()]  # tied ones once
    ignored = getattr(plain, "_keys_to_ignore_on_load_unexpected", None) or ()
    info = {"missing_keys": [n for n in asked if n not in own], "unexpected_keys": [n for n in own if n not in known]}
    check_loaded(info, label, plain.config.get_text_config().num_hidden_layers, ignored)  # type: ignore[operator, union-attr]
    if other := [name for name in asked if own[name] != known[name]]:
        name = other[0]
        raise ModelUnavailableError(
            f"{label}: {CONFIG} tells of other sizes than the weights have ({name} is {list(own[name])}, not "
            f"{list(known[name])}); copy weights and config of one model"
        )
