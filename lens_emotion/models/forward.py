"""A forward pass up to the last block: in batches that fit, without the LM head, by the shortest way.

`body` is the one way of stopping before the head; `residual_cache` keeps such a pass in an ActivationCache, `read_out`
computes the logits of chosen positions afterwards.

A TransformerBridge wraps every part of a block, so that every inner quantity can be hooked: attention is computed by
hand (scores, softmax, a copy of the keys for every group), each norm twice, each projection behind two hook points.
Where no hook is set inside a block, its Hugging Face parts do the same arithmetic (`shortcut`), with fused attention
where the architecture has it. `resid_post` and the blocks' own hooks are fired as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from numbers import Integral
from typing import Any, TypeVar
from warnings import warn

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from transformer_lens import ActivationCache

from lens_emotion.errors import GenerationError, NotFiniteError, OutOfMemoryError, UnsupportedModelError
from lens_emotion.files.user import shown
from lens_emotion.memory import free_on, on_accelerator, room_for
from lens_emotion.models.access import Model, backend_of, device_of, hook_name
from lens_emotion.models.placement import NO_SMALLER, lighter_than
from lens_emotion.models.threads import one_thread, turn

T = TypeVar("T")
Undo = list[tuple[dict[str, Any], str, Any]]  # what to write back: table, name, value
Run = Callable[[Tensor, Tensor], None]  # tokens, mask of real tokens, both [batch, pos], best on the CPU
TOKEN_BUDGET = 8192  # padded tokens per forward pass; large enough to saturate a GPU at this scale of model
CPU_BUDGET = 512  # a CPU is saturated long before: smaller batches stay in its caches and need less padding
GENERATION_BUDGET = 16384  # prompt and new tokens of a decoding batch on a CPU, where more rows are no faster
WRITING_SHARE = 0.5  # of an accelerator's free memory, for that; caches are copied while they grow
CHUNK = 512  # rows of logits at a time: 512 x 262,144 (Gemma's vocabulary) in float32 is half a gigabyte
MOST = 10**9  # tokens of anything
SMALL = 256  # width below which threads wait for each other longer than they compute (measured on the tiny models)
AT_ONCE = 4  # times as many tokens at a width so small that most of a pass is Python between its operators


def check_count(name: str, value: object) -> None:
    """Raises GenerationError unless a number of tokens is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= MOST:
        raise GenerationError(f"{name} is {shown(value)}; give a whole number of at least 1, at most {MOST:,}")


def cpu_budgets(d_model: int) -> tuple[int, int]:
    """Tokens of a batch that is read, and of one that is written, on a CPU."""
    times = AT_ONCE if d_model < SMALL else 1
    return times * CPU_BUDGET, times * GENERATION_BUDGET


def budget_for(model: Model, asked: int | None = None) -> int:
    """Padded tokens per forward pass: as asked, else what suits the model's width and device."""
    if asked is not None:
        return asked
    return cpu_budgets(model.cfg.d_model)[0] if device_of(model).type == "cpu" else TOKEN_BUDGET


def writing_budget(model: Model, prompt: int, new: int, asked: int | None = None, *, states: int = 0) -> int:
    """Prompt and new tokens of a decoding batch: as asked, else what the free memory of the device holds.

    Beside the weights, which are there, a row takes keys and values, its logits (as they come and in float32), the
    widest part of the pass over its prompt, and `states`. Powers of two, so that a little more or less free memory
    leaves batches, and with them rounding and the keys of journals, as they are.

    Args:
        prompt, new: tokens of the longest row. states: bytes that a reader holds for each row.
    """
    device, cfg = device_of(model), model.cfg
    free, usual = (free_on(device) if asked is None else None), cpu_budgets(cfg.d_model)[1]
    if asked is not None or free is None:
        return usual if asked is None else asked
    kept = 2 * cfg.n_layers * (getattr(cfg, "n_key_value_heads", None) or cfg.n_heads) * cfg.d_head * (prompt + new)
    passing = prompt * (8 * cfg.d_model + 3 * (getattr(cfg, "d_mlp", None) or 4 * cfg.d_model))
    row = cfg.dtype.itemsize * (kept + passing + cfg.d_vocab) + 4 * cfg.d_vocab + states
    if device.type == "cpu":  # a small batch, made smaller only where it would not fit at all
        most, share = usual, 1.0
    else:
        most, share = MOST, WRITING_SHARE
    tokens = int(share * free / row * (prompt + new))
    return min(most, 2 ** (max(tokens, 1).bit_length() - 1))


def plan_batches(lengths: Sequence[int], token_budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Indices of texts in batches: longest first, so that memory peaks at once, and neighbours need little padding.

    Every batch holds at least one text, and its padded size (rows x longest) stays within the budget otherwise.

    Raises:
        GenerationError: a budget below 1.
    """
    check_count("token_budget", token_budget)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and (len(batches[-1]) + 1) * longest <= token_budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def run_halving(
    rows: list[int], run: Callable[[list[int]], list[T]], model: Model | None = None, doing: str = "running"
) -> list[T]:
    """Run a batch; out of memory on the accelerator, run its halves, which may round otherwise, and say so.

    Not on a CPU, whose batches are small: there the same command, with more memory, gives the same bits.

    Raises:
        OutOfMemoryError: on a CPU; a single row that does not fit.
    """
    try:
        with room_for(f"{doing} ({len(rows)} in a batch)", partial(lighter, model) if model is not None else str):
            return run(rows)
    except OutOfMemoryError as error:
        if len(rows) == 1 or not on_accelerator(error.__cause__ or error):
            raise
        warn(f"{error.short or error}: a batch of {len(rows)} runs in halves, and may round otherwise", stacklevel=2)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(rows) // 2
    return run_halving(rows[:middle], run, model, doing) + run_halving(rows[middle:], run, model, doing)


def lighter(model: Model) -> str:
    """What takes less memory than this model does, in words."""
    whole = backend_of(model) == "bridge" and "quantization_config" not in getattr(model, "lens_emotion_placed", {})
    if model.cfg.d_model < SMALL:
        return NO_SMALLER
    return lighter_than(model.cfg.dtype, str(model.cfg.device), whole)


def sent(tensor: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """A tensor on a device; a copy to CUDA waits neither for what runs there nor lets the host wait for itself."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def body(model: Model, see: Callable[[Tensor], None], *, last_only: bool = False) -> Iterator[Run]:
    """Inside, `run(tokens, mask)` runs a batch up to the last block; `see` gets `resid_post`, layer after layer.

    The LM head does not run: its logits are the memory peak and 28-63% of the time of models under 1B parameters.
    HookedTransformer stops at its last layer; the Bridge would still run the head then, so an exception of
    TransformerLens's own ends its pass. Hooks are set, and parts of the Bridge step aside (`models.forward`), once for
    all batches: set hooks of your own before entering.

    Args:
        model: TransformerBridge or HookedTransformer.
        see: given [batch, pos, d_model], in the model's precision, on its device. On an accelerator nothing here waits
            for it while masks lie on the CPU, where they are looked at.
        last_only: only the last layer is seen; whole blocks of the Bridge step aside then.

    Raises:
        UnsupportedModelError: the model is in training mode.
    """
    check_evaluating(model)
    names, device = [hook_name(layer) for layer in range(model.cfg.n_layers)], device_of(model)
    if backend_of(model) == "hooked":
        watched = names[-1:] if last_only else names
        with turn(model), _hooks(model, watched, lambda tensor, hook: see(tensor)), torch.inference_mode():
            yield lambda tokens, mask: model(
                sent(tokens, device), stop_at_layer=len(names), attention_mask=sent(mask.long(), device)
            )
        return
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    # the last block steps aside as a whole if its output is taken where the final norm takes it
    watched, left = (["ln_final.hook_in"] if last_only else names), [0]  # hooks of the pass still to come

    def see_and_stop(tensor: Tensor, hook: Any) -> None:
        if not left[0]:  # the final norm runs outside of passes too, when logits are read out
            return
        see(tensor)
        left[0] -= 1
        if not left[0]:
            raise StopAtLayerException(tensor)

    with (
        turn(model),
        _hooks(model, watched, see_and_stop),
        shortcut(model, whole_blocks=last_only) as unseen,
        torch.inference_mode(),
    ):

        def run(tokens: Tensor, mask: Tensor) -> None:
            left[0] = len(watched)
            # where nobody looks at masks and all pads are on the right, no real token sees one: faster without
            needed = None if unseen and bool((mask[:, 1:] <= mask[:, :-1]).all()) else sent(mask.long(), device)
            with suppress(StopAtLayerException):
                # without output_attentions=False the Bridge would materialise every attention pattern
                model(sent(tokens, device), attention_mask=needed, output_attentions=False, use_cache=False)

        yield run


def _hooks(model: Model, names: Sequence[str], see: Callable[[Tensor, Any], None]) -> Any:
    """One hook under a filter of names: the Bridge looks up every name given for itself."""
    return model.hooks(fwd_hooks=[(frozenset(names).__contains__, see)])


def residual_cache(
    model: Model, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
) -> ActivationCache:
    """Run the model over tokens and keep `blocks.{l}.hook_resid_post` of every layer; the LM head does not run.

    Args:
        model: TransformerBridge or HookedTransformer.
        tokens: token ids, padded on either side.
        mask: True where there is a token; None if nothing is padded.

    Returns:
        ActivationCache with one entry per layer, [batch, pos, d_model], in the model's precision, on its device.

    Example:
        >>> cache = le.residual_cache(model, model.to_tokens("The door opened."))
        >>> sorted(cache.keys())[0]
        'blocks.0.hook_resid_post'
        >>> cache["blocks.0.hook_resid_post"].shape[-1]
        64
    """
    seen: list[Tensor] = []
    with body(model, seen.append) as run:
        run(tokens, torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask)
    return ActivationCache({hook_name(layer): tensor for layer, tensor in enumerate(seen)}, model)


def read_out(model: Model, residual: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_vocab"]:
    """Logits of residual vectors after the last block: final norm, unembedding, soft cap where the model has one."""
    logits = model.unembed(model.ln_final(residual[None]))[0]
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits


def check_evaluating(model: Model) -> None:
    """Raises UnsupportedModelError if the model is in training mode, where that changes what it computes.

    A HookedTransformer has no dropout and is made in training mode, so that its mode says nothing.
    """
    parts = (getattr(model, "original_model", None) or model).modules()
    if backend_of(model) == "hooked":
        parts = (part for part in parts if isinstance(part, nn.Dropout))
    if any(part.training for part in parts):
        raise UnsupportedModelError(
            "the model is in training mode, in which dropout makes every pass another one; call model.eval() first"
        )


def not_finite(model: Model, where: str) -> NotFiniteError:
    """The error that says where a pass went wrong ("the states of layer 3"), why, and what to do."""
    named = (getattr(model, "original_model", None) or model).named_parameters()
    weight = next((name for name, p in named if not bool(torch.isfinite(p).all())), None)
    dtype = str(model.cfg.dtype).removeprefix("torch.")
    if weight:
        also = "" if dtype == "float32" else f", and in float32 rather than {dtype}, whose range it may have left"
        remedy = f"so does the weight {weight}: the weights are damaged, load them from another copy{also}"
    elif dtype == "float32":
        remedy = "the weights are finite, but too large for float32, or a hook adds it; try `lens-emotion check`"
    else:
        limit = " (its largest number is 65504)" if dtype == "float16" else ""
        others = "dtype='float32'" if dtype == "bfloat16" else "dtype='bfloat16' or 'float32'"
        remedy = f"{dtype} overflows{limit}; load the model with {others}"
    return NotFiniteError(f"{where} hold NaN or infinity: {remedy}")


def check_finite_layers(model: Model, finite: Bool[Tensor, " n_layers"]) -> None:
    """Raises NotFiniteError naming the first layer that is not finite."""
    if not bool(finite.all()):
        raise not_finite(model, f"the states of layer {int((~finite).nonzero()[0])}")


def fitting_threads(model: Model) -> AbstractContextManager[None]:
    """One CPU thread inside the block for models too small to share work."""
    return one_thread(device_of(model).type == "cpu" and model.cfg.d_model < SMALL)


@contextmanager
def shortcut(model: Model, *, whole_blocks: bool = False) -> Iterator[bool]:
    """Inside, blocks without hooks on their parts run their Hugging Face parts; afterwards all is as before.

    Set hooks before entering: a hook on a part (an attention pattern, a norm, `resid_mid`) keeps its block as it is,
    and one such block keeps eager attention for all. HookedTransformer and processed weights are left alone.

    Args:
        model: TransformerBridge or HookedTransformer.
        whole_blocks: blocks without any hook step aside as well; only where no hook on `resid_post` is set later.

    Yields:
        True if the parts of every block have stepped aside, so that nobody sees scores, patterns or masks.
    """
    undo: Undo = []
    try:
        yield backend_of(model) == "bridge" and _untouched(model) and _step_aside(model, whole_blocks, undo)
    finally:
        for table, name, value in reversed(undo):
            table[name] = value


def _untouched(model: Model) -> bool:
    """True for a Bridge whose Hugging Face parts still are the model: raw weights, one device."""
    touched = getattr(model, "_weights_processed", False) or getattr(model, "compatibility_mode", False)
    return not touched and (getattr(model.cfg, "n_devices", 1) or 1) == 1 and hasattr(model, "blocks")


def _step_aside(model: Model, whole_blocks: bool, undo: Undo) -> bool:
    table = model.blocks._modules  # the list of blocks is the Hugging Face model's own
    blocks = [(name, block) for name, block in table.items() if getattr(block, "original_component", None) is not None]
    able = [(name, block) for name, block in blocks if _silent(block) and _same_weights(block)]
    configs = [model.original_model.config, model.original_model.base_model.config]
    for name, block in able:
        configs += _unwrap(block.original_component, undo)
        if whole_blocks and not _hooked(block) and not _hooked(block.hook_in) and not _hooked(block.hook_out):
            _swap(table, name, block.original_component, undo)
    everywhere = len(able) == len(table)
    if everywhere and _fused_attention_fits(model.original_model):
        for config in configs:
            _swap(config.__dict__, "_attn_implementation_internal", "sdpa", undo)
    return everywhere


def _swap(table: dict[str, Any], name: str, value: Any, undo: Undo) -> None:
    undo.append((table, name, table.get(name)))
    table[name] = value


def _unwrap(module: nn.Module, undo: Undo) -> list[Any]:
    """Replace every wrapper below a Hugging Face module by what it wraps; returns the configs of these parts."""
    configs = []
    for name, part in list(module._modules.items()):
        original = getattr(part, "original_component", None)
        if original is not None:
            _swap(module._modules, name, original, undo)
            part = original
        if part is not None:
            configs += [part.config] if hasattr(part, "config") else []
            configs += _unwrap(part, undo)
    return configs


def _silent(block: nn.Module) -> bool:
    """True if no hook is set on what would step aside; TransformerLens's own hooks there only feed hook points.

    Hooks on the Hugging Face parts are no matter: those parts run.
    """
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    own = frozenset(handle.id for handle in getattr(block, "_capture_hook_handles", ()))
    kept = (block, block.hook_in, block.hook_out)
    parts = (part for part in block.modules() if isinstance(part, HookPoint | GeneralizedComponent))
    return not any(_hooked(part, own) for part in parts if part not in kept)


def _hooked(module: nn.Module, own: frozenset[int] = frozenset()) -> bool:
    tables = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(not own.issuperset(table) for table in tables if table)


def _same_weights(block: nn.Module) -> bool:
    """True if the wrappers compute with the Hugging Face parts' weights, or views of them (GPT-2's split q, k, v)."""
    original: Any = block.original_component
    theirs = {p.untyped_storage().data_ptr() for p in _unwrapped_parameters(original)}
    return all(p.untyped_storage().data_ptr() in theirs for p in block.parameters())


def _unwrapped_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    original: Any = getattr(module, "original_component", None)
    if original is not None:
        yield from _unwrapped_parameters(original)
        return
    yield from (p for p in module._parameters.values() if p is not None)
    for part in module._modules.values():
        if part is not None:
            yield from _unwrapped_parameters(part)


def _fused_attention_fits(hf_model: Any) -> bool:
    """True if the architecture's fused attention computes what its eager attention does."""
    config = hf_model.config.get_text_config()
    odd = ("attn_logit_softcapping", "reorder_and_upcast_attn", "output_attentions")
    eager = getattr(config, "_attn_implementation", None) == "eager"
    return eager and bool(getattr(hf_model, "_supports_sdpa", False)) and not any(getattr(config, k, None) for k in odd)
