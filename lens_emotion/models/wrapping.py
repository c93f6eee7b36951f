"""wrap: a model object of one's own -> a TransformerLens model that every function here takes.

A plain transformers model, a PEFT model, a text-generation pipeline, what `torch.compile` or DDP made of one, a
TransformerBridge, a HookedTransformer. The object given is left as it is: the wrapper has modules of its own around the
same weights, so that nothing is held twice. Active adapters are merged into copies of the weights they change, which
makes it the model that `merge_and_unload()` would save, with that model's fingerprint; but for an adapter on an
embedding whose head is tied to it: PEFT's merging changes the head too, which the active adapter does not.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lens_emotion.errors import ModelUnavailableError, UnknownModelError, UnsupportedModelError
from lens_emotion.files.names import check_name
from lens_emotion.memory import pass_on, room_for
from lens_emotion.models import hooked
from lens_emotion.models.access import Model, check_raw_basis, tokenizer_of
from lens_emotion.models.checkpoint import check_kind, check_vocabulary
from lens_emotion.models.conversion import trace_of
from lens_emotion.models.first_token import keep_rule, measure_rule
from lens_emotion.models.loading import bridge_of, first_line, quiet_loading, remember
from lens_emotion.models.templates import check_switches

OWN_SHARE = 0.9  # of an embedding's rows that the model's own tokenizer fills; the rest is padding
_INNER = ("_orig_mod", "module")  # what torch.compile and DistributedDataParallel hold
_HIDDEN = ("model", "pretrained_model", "_model", "base_model", "llm", "lm")  # where other wrappers keep theirs


def wrap(
    model: Any, tokenizer: Any = None, *, name: str | None = None, template: Mapping[str, Any] | None = None
) -> Model:
    """Make a model object you already hold one that every function of this package takes.

    Args:
        model: a causal model of transformers, plain, compiled, quantised or spread over GPUs; a PEFT model, whose
            active adapters are merged into copies of the weights they change; a text-generation pipeline; or a
            TransformerBridge or HookedTransformer, which is checked and given back. Where it lies and its precision
            stay as they are, and the object itself is not changed: its own `generate` is not steered either; write with
            what comes back (`le.generate(wrapped, ...)`).
        tokenizer: of transformers; None takes the pipeline's, or loads the one that the model names.
        name: how results call the model; default what its config was loaded from, with the adapters behind a +.
        template: switches of the chat template, as in `load_model`.

    Returns:
        A TransformerLens model in evaluation mode, in the raw basis, seen to compute what `model` computes.

    Raises:
        UnsupportedModelError: no causal model, no such architecture in TransformerLens, weights that are not in memory,
            adapters that cannot be merged (prompt tuning; into 8 or 4 bit).
        UnknownModelError: a name where a model belongs, the two arguments swapped.
        ModelUnavailableError: no tokenizer, or one of another model.
        ProcessedModelError: a HookedTransformer with processed weights.
        StimulusError: `template` names what the model's chat template does not know.

    Example:
        >>> import lens_emotion as le
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> folder = le.models.loading.resolve("tiny-llama").location  # any folder or hub id
        >>> own = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        >>> model = le.wrap(own, AutoTokenizer.from_pretrained(folder))
        >>> le.describe(model).backend
        'bridge'
    """
    if name is not None:
        check_name("name", name)
    plain, own = _unpacked(model)
    tokenizer = _text_tokenizer(own if tokenizer is None else tokenizer)
    if hasattr(plain, "cfg"):  # a model of TransformerLens, or backend_of says what it is
        check_raw_basis(plain)
        if plain.tokenizer is None and tokenizer is not None and hooked.is_hooked(plain):
            plain.set_tokenizer(tokenizer)
        elif plain.tokenizer is None:
            plain.tokenizer = tokenizer
        label = str(name or getattr(plain, "lens_emotion_name", None) or plain.cfg.model_name)
        asked = template if template is not None else getattr(plain, "lens_emotion_template", {})
        check_switches(tokenizer_of(plain), label, asked)
        return remember(plain, label, asked)
    label = name or _label(plain)
    tokenizer = tokenizer if tokenizer is not None else _named_tokenizer(plain)
    check_vocabulary(tokenizer, plain.config, label)
    _warn_of_another(tokenizer, plain.config, label)
    check_switches(tokenizer, label, template or {})
    with room_for(f"wrapping {label}"), quiet_loading():
        return remember(_wrapped(plain, tokenizer, label), label, template or {})


def _wrapped(plain: Any, tokenizer: Any, label: str) -> Model:
    """A Bridge around a copy of the model's modules, measured against the model as it was given."""
    made = _own_modules(plain)
    rule = measure_rule(tokenizer)  # before TransformerLens changes it
    trace = trace_of(made, tokenizer)
    _merge(made)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs["add_bos_token"] = True  # else TransformerLens loads another one by its name
    placed = _placed(plain)
    place = None if placed else str(next(plain.parameters()).device)
    model = bridge_of(made, trace, label, tokenizer=tokenizer, dtype=plain.dtype, device=place)
    model.lens_emotion_placed = placed
    model.lens_emotion_config = made.config.to_dict()
    keep_rule(model, rule)
    return model


# What was given.


def _unpacked(given: Any) -> tuple[Any, Any]:
    """The model in what was given, and the tokenizer that came with it.

    Raises:
        UnknownModelError, UnsupportedModelError: there is none that fits; says what does.
    """
    if isinstance(given, str | Path):
        raise UnknownModelError(f"'{given}' is a name; wrap takes a model object: le.load_model('{given}') loads one")
    if hasattr(given, "convert_tokens_to_ids"):
        raise UnknownModelError("the first argument is a tokenizer; give the model first: le.wrap(model, tokenizer)")
    if isinstance(given, type):
        raise UnknownModelError(f"{given.__name__} is a class; give a model: {given.__name__}.from_pretrained(...)")
    own = None
    if not isinstance(given, nn.Module) and isinstance(getattr(given, "model", None), nn.Module):
        given, own = given.model, getattr(given, "tokenizer", None)  # a pipeline
    while name := next((n for n in _INNER if isinstance(_of(given, n), nn.Module)), ""):
        given = getattr(given, name)
    if hasattr(given, "cfg") and hasattr(given, "run_with_hooks"):
        return given, own
    configs = _of(given, "peft_config")
    if hasattr(given, "get_base_model") and isinstance(configs, Mapping):
        if prompts := [k for k, c in configs.items() if getattr(c, "is_prompt_learning", False)]:
            raise UnsupportedModelError(
                f"the adapter '{prompts[0]}' puts tokens of its own in front of every text (prompt or prefix tuning), "
                "which is no change of weights; give a model with LoRA or another adapter that can be merged"
            )
        given = given.get_base_model()
    _check_causal(given)
    return given, own


def _of(given: Any, name: str) -> Any:
    return getattr(given, name, None)


def _check_causal(given: Any) -> None:
    """Raises UnsupportedModelError for what is no causal model of transformers with its weights in memory."""
    from transformers import PreTrainedModel

    kind = type(given).__name__
    if not isinstance(given, PreTrainedModel):
        inner = next((n for n in _HIDDEN if isinstance(_of(given, n), PreTrainedModel)), None)
        hint = f"; it holds one: le.wrap(model.{inner}, tokenizer)" if inner else ""
        raise UnsupportedModelError(
            f"a {kind} is no causal model of transformers, PEFT or TransformerLens{hint}; give one of these, or a name "
            "to le.load_model"
        )
    config = given.config.to_dict() | {"architectures": [_architecture(given)]}
    if given.get_output_embeddings() is None and not config.get("is_encoder_decoder"):
        raise UnsupportedModelError(
            f"a {kind} has no head that predicts tokens; load it with AutoModelForCausalLM, or give its folder or hub "
            "id to le.load_model"
        )
    check_kind(config, kind)
    if missing := next((n for n, p in given.named_parameters() if p.is_meta), None):
        raise UnsupportedModelError(
            f"{missing} is not in memory (device 'meta', or offloaded); load the model onto a CPU or GPU"
        )


def _architecture(plain: Any) -> str:
    """The class of transformers that a model is of, also where its own is a subclass."""
    classes = (c.__name__ for c in type(plain).__mro__ if c.__module__.startswith("transformers.models."))
    return next(classes, type(plain).__name__)


def _text_tokenizer(given: Any) -> Any:
    """A tokenizer that was given, or the one inside a processor.

    Raises:
        UnknownModelError: it is none.
    """
    given = getattr(given, "tokenizer", given)
    if given is None or hasattr(given, "convert_tokens_to_ids"):
        return given
    what = f"'{given}', a name" if isinstance(given, str | Path) else f"a {type(given).__name__}"
    raise UnknownModelError(f"the tokenizer is {what}; give AutoTokenizer.from_pretrained(...), or leave it out")


def _warn_of_another(tokenizer: Any, config: Any, label: str) -> None:
    """A warning where the tokenizer may be another model's: nothing in it says whose it is."""
    size, held = len(tokenizer), config.get_text_config().vocab_size
    end, ends = tokenizer.eos_token_id, config.get_text_config().eos_token_id
    ends = ends if isinstance(ends, list | tuple) else [ends]
    if size < OWN_SHARE * held or (end is None and ends != [None]):
        lacks = "has no end of text" if end is None and ends != [None] else f"has {size:,} tokens, the model {held:,}"
        warnings.warn(f"{label}: the tokenizer {lacks}; is it this model's? Its texts would be noise", stacklevel=4)


def _named_tokenizer(plain: Any) -> Any:
    """The tokenizer that a model's config was loaded beside.

    Raises:
        ModelUnavailableError: it names none, or none that can be had.
    """
    from transformers import AutoTokenizer

    name, why = plain.config.name_or_path, "its config names no folder or hub id"
    try:
        if name:
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # transformers and the hub raise many unrelated types here
        pass_on(error)
        why = f"{name}: {first_line(error)}"
    raise ModelUnavailableError(f"no tokenizer for the model ({why}); give it: le.wrap(model, tokenizer)")


def _label(plain: Any) -> str:
    """What a model is called by its config, and the adapters that are active in it."""
    path = Path(str(plain.config.name_or_path or type(plain).__name__))
    active = {
        a: None for module in _adapted(plain).values() if not module.disable_adapters for a in module.active_adapters
    }
    return "+".join([path.name if path.is_absolute() or path.exists() else str(path), *active])


# A model of its own around the same weights.


def _adapted(plain: nn.Module) -> dict[str, Any]:
    """Layers of PEFT by name: a layer with what adapters add to it, or others that stand in its place."""
    return {n: m for n, m in plain.named_modules() if isinstance(_of(m, "disable_adapters"), bool)}


def _own_modules(plain: Any) -> Any:
    """Copies of all modules around the same parameters, in evaluation mode and with eager attention, whose scores a
    Bridge can hook."""
    shared: dict[int, Tensor] = {id(t): t for t in chain(plain.parameters(), plain.buffers())}
    made = copy.deepcopy(plain, shared).eval()
    made.config.architectures = [_architecture(plain)]
    made.set_attn_implementation("eager")
    return made


def _merge(made: nn.Module) -> None:
    """Put every layer with active adapters in its place, merged; of disabled ones what is below.

    Raises:
        UnsupportedModelError: an adapter that cannot be merged.
    """
    for name, layer in _adapted(made).items():
        setattr(made.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], _merged(layer, name))


def _merged(layer: Any, name: str) -> nn.Module:
    """What a layer of PEFT computes with its active adapters, as one plain layer."""
    kept = _of(layer, "modules_to_save")
    if kept is not None:  # a whole layer in place of another
        key = next((a for a in layer.active_adapters if a in kept), None)
        return layer.original_module if layer.disable_adapters or key is None else kept[key]
    weight = _of(_of(layer, "base_layer"), "weight")
    if not hasattr(layer, "merge") or (isinstance(weight, Tensor) and not weight.is_floating_point()):
        why = "it knows no merging" if not hasattr(layer, "merge") else "its weights are packed to 8 or 4 bit"
        raise UnsupportedModelError(
            f"the adapter at {name} cannot be merged ({why}); load the base model in bfloat16 or float32, and an "
            "adapter that has merge_and_unload()"
        )
    plain: nn.Module = layer.get_base_layer()
    for part, held in list(plain.named_parameters(recurse=False)):  # of its own: no head that was tied to it changes
        setattr(plain, part, nn.Parameter(held.detach().clone(), requires_grad=False))
    if not layer.disable_adapters:
        layer.merge()
    elif layer.merged:
        layer.unmerge()
    return layer.get_base_layer()  # some put another layer there


def _placed(plain: Any) -> dict[str, Any]:
    """How a model was placed by who loaded it, as `load_model` remembers it; empty on one device in whole numbers."""
    packed, spread = _of(plain.config, "quantization_config"), _of(plain, "hf_device_map")
    found = {"quantization_config": packed} if packed is not None else {}
    return found | ({"device_map": spread} if spread and len(set(spread.values())) > 1 else {})
