"""Logit lens of emotion vectors: which tokens, in which scripts, a vector brings out, without generating a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import regex
import torch
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control
from torch import Tensor

from lens_emotion.display import Brief, Result
from lens_emotion.errors import AnalysisError, UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations, check_made_on
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, check_raw_basis, describe, device_of, tokenizer_of
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.models.prompting import special_ids
from lens_emotion.pictures import tinted
from lens_emotion.stats.tests import ALPHA, NOISE, max_corrected_p, null_columns, percentile_band, permutation_p
from lens_emotion.stimuli.emotions import BYTES, SCRIPTS, main_script
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors, unit

ISOTROPIC, MATCHED = "isotropic", "matched"
SHOWN = 6  # tokens of an emotion in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Lens(Result):
    """Tokens that each vector raises most ("up") and lowers most ("down"), and the scripts they are written in.

    Attributes:
        table: emotion, side, rank (from 1), token (with its leading space), token_id, z (logit standardised over the
            vocabulary: scale-free), script.
        scripts: emotion, side, control ("isotropic" random directions, or "matched": random mixtures of the centred
            texts), script, base_rate (its share of the vocabulary), share (of the top `k` tokens), null_mean,
            null_low, null_high (95% of the random directions), p (share above them), p_corrected (best of all scripts),
            mean_z (mean z of all its tokens), z_low, z_high, z_p, z_p_corrected (two-sided).
        layer: the layer. n_layers: of how many. model: its name.
        k: tokens behind a share. n_random: random directions per control.
        form: "direction", or "in context" with its dose.
    """

    table: pd.DataFrame
    scripts: pd.DataFrame
    layer: int
    n_layers: int
    model: str
    k: int
    n_random: int
    form: str

    def tokens(self, emotion: str, side: str = "up", n: int = 10) -> list[str]:
        """The first n tokens of one emotion and side."""
        rows = self.table[(self.table["emotion"] == emotion) & (self.table["side"] == side)]
        if rows.empty:
            known = ", ".join(dict.fromkeys(self.table["emotion"]))
            raise AnalysisError(f"no tokens for emotion {emotion!r}, side {side!r}; there are {known}; up, down")
        return [str(token) for token in rows["token"].head(n)]

    def _drawn(self) -> str:
        """The first tokens that each vector raises, the stronger the bluer."""
        rows = self.table[(self.table["side"] == "up") & (self.table["rank"] <= SHOWN)]
        top, lines = float(rows["z"].abs().max()), []
        for emotion, part in rows.groupby("emotion", sort=False):
            words = zip(part["token"], (part["z"] / top).tolist(), [f"z = {z:.1f}" for z in part["z"]], strict=True)
            spaced = [
                piece for token, tone, said in words for piece in ((token, tone, said, False), (" ", 0.0, "", False))
            ]
            lines.append(f"<tr><td>{escape(str(emotion))}</td><td>{tinted(spaced)}</td></tr>")
        return f"<table>{''.join(lines)}</table>"

    def summary(self) -> str:
        """One sentence on the top tokens, one on the scripts against the strictest control there is."""
        first = str(self.table["emotion"].iloc[0])
        words = ", ".join(repr(token) for token in self.tokens(first, n=5))
        said = f"At {place(self.layer, self.n_layers)} of {self.model}, '{first}' brings out {words}."
        control = MATCHED if MATCHED in set(self.scripts["control"]) else ISOTROPIC
        rows = self.scripts[(self.scripts["control"] == control) & (self.scripts["side"] == "up")]
        best = rows.loc[rows.groupby("emotion", sort=False)["p_corrected"].idxmin()]
        n, kind = len(best), f"{self.n_random} {control} random directions"
        found = best[false_discovery_control(best["p_corrected"]) <= ALPHA]
        if found.empty:
            return f"{said} No vector of {n} brings out a script beyond {kind}: {NOISE}."
        names = ", ".join(f"{r.emotion} {r.script} {r.share:.2f}" for r in found.head(4).itertuples())
        return (
            f"{said} {len(found)} of {n} vectors bring out a script among their top {self.k} tokens beyond {kind} "
            f"(q <= {ALPHA} over vectors, corrected over scripts; {names}{', ...' * (len(found) > 4)})."
        )


@numbers_fit(AnalysisError)
def lens(
    model: Model,
    vectors: EmotionVectors | EmotionVector,
    layer: int | None = None,
    top: int = 10,
    n_random: int = 200,
    seed: int = 0,
    *,
    acts: PooledActivations | None = None,
    at: PooledActivations | Tensor | None = None,
    dose: float = 1.0,
    k: int = 50,
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> Lens:
    """Logit lens of emotion vectors at one layer, with random directions read in the same way.

    A direction has no norm of its own, so the final norm cannot be applied to it. Its learned scale can: logits are
    `(w * v) @ W_U` (`v` centred first where the final norm is a LayerNorm; 1 + w for Gemma), without any bias. With
    `at`, the vector is read in context instead: the true final norm and soft cap at `at + dose * vector` less those
    at `at`. Special tokens and rows of the unembedding that no token uses are left out.

    Args:
        model: the model of the vectors, of either TransformerLens class.
        vectors: all emotions, or one vector or mixture.
        layer: default n_layers // 2; negative counts from the end.
        top: tokens in the table, per side.
        n_random: random directions per control: isotropic, and with the covariance of the texts if `acts` is given.
        seed: of the random directions.
        acts: texts whose covariance the second control has.
        at: a state [d_model], or activations whose mean at the layer is taken.
        dose: in natural units, for `at` only; random directions are as long as the mean of the vectors.
        k: tokens behind the shares of scripts.
        allow_other_model, allow_processed: accept vectors of another model, or processed weights.

    Raises:
        FingerprintError: vectors or activations of another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnsupportedModelError: vectors of another shape than the model, or a model without tokenizer.
        AnalysisError: no such layer, or top, n_random or k below 1.

    Example:
        >>> result = le.lens(model, vectors["calm"], layer=3, top=5, n_random=20)
        >>> list(result.table)[:3]
        ['emotion', 'side', 'rank']
    """
    name = _check(model, vectors, (acts, at), allow_other_model, allow_processed)
    for option, value in (("top", top), ("n_random", n_random), ("k", k)):
        if value < 1:
            raise AnalysisError(f"{option} is {value}; give at least 1")
    layer = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    for vector in [vectors] if isinstance(vectors, EmotionVector) else [vectors[e] for e in vectors.emotions]:
        vector.check_layers([layer])
    names, rows, sizes = _rows(vectors, layer)
    controls = random_controls(rows.shape[1], n_random, seed, None if acts is None else acts.values[:, layer])
    everything = torch.cat([rows, *controls.values()])
    if at is None:
        logits, form = direction_logits(model, everything), "direction"
    else:
        lengths = torch.cat([sizes, sizes.mean().expand(len(everything) - len(rows))])
        state = at.values[:, layer].cpu().double().mean(0) if isinstance(at, PooledActivations) else at.detach().cpu()
        logits = state_logits(model, state.float(), dose * lengths[:, None] * everything)
        form = f"in context, dose {dose:g}"
    words = vocabulary(model)
    found = scan(logits, words, max(top, k))
    shares = scan(logits, words, k) if top > k else found
    return Lens(
        _table(names, found, words, top),
        _script_table(names, tuple(controls), n_random, shares, words),
        layer, vectors.n_layers, name, min(k, len(words)), n_random, form,
    )  # fmt: skip


def _check(
    model: Model, vectors: EmotionVectors | EmotionVector, others: tuple[Any, ...], other_model: bool, processed: bool
) -> str:
    check_raw_basis(model, processed)
    info = describe(model)
    shape = tuple((vectors.directions[0] if isinstance(vectors, EmotionVectors) else vectors.direction).shape)
    if shape != (info.n_layers, info.d_model):
        raise UnsupportedModelError(
            f"the vectors have shape {shape} (layers, d_model), the model {(info.n_layers, info.d_model)}; "
            "extract vectors on this model"
        )
    if not other_model:
        check_made_on(info, vectors.header, *(x.header for x in others if isinstance(x, PooledActivations)))
    return info.name


def _rows(
    vectors: EmotionVectors | EmotionVector, layer: int
) -> tuple[tuple[str, ...], Float[Tensor, "n d_model"], Float[Tensor, " n"]]:
    if isinstance(vectors, EmotionVector):
        return (vectors.name,), vectors.direction[layer][None].float(), vectors.natural[layer][None].float()
    return vectors.emotions, vectors.at(layer).float(), vectors.natural[:, layer].float()


def random_controls(
    d_model: int, n: int, seed: int, texts: Float[Tensor, "n_texts d_model"] | None
) -> dict[str, Float[Tensor, "n d_model"]]:
    """Unit directions: uniform, and with the covariance of the texts (random mixtures of the centred texts)."""
    generator = torch.Generator().manual_seed(seed)
    controls = {ISOTROPIC: unit(torch.randn(n, d_model, generator=generator))}
    if texts is not None:
        rows = texts.cpu().double()
        mixture = torch.randn(n, len(rows), generator=generator, dtype=torch.float64)
        controls[MATCHED] = unit(mixture @ (rows - rows.mean(0))).float()
    return controls


def _table(names: tuple[str, ...], found: Scan, words: Vocabulary, top: int) -> pd.DataFrame:
    top = min(top, found.top.shape[1])
    parts = []
    for side, places, z in (("up", found.top, found.top_z), ("down", found.bottom, found.bottom_z)):
        at = places[: len(names), :top].flatten().cpu().numpy()
        columns = {
            "emotion": np.repeat(np.array(names, dtype=object), top),
            "side": side,
            "rank": np.tile(np.arange(1, top + 1), len(names)),
            "token": [words.texts[i] for i in at],
            "token_id": words.ids[at],
            "z": z[: len(names), :top].flatten().numpy(),
            "script": [SCRIPTS[i] for i in words.script[at]],
        }
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts)
    return frame.sort_values("emotion", key=lambda s: s.map(names.index), kind="stable", ignore_index=True)


def _script_table(
    names: tuple[str, ...], controls: tuple[str, ...], n_random: int, found: Scan, words: Vocabulary
) -> pd.DataFrame:
    present = [i for i, script in enumerate(SCRIPTS) if script in words.base_rate]
    z = found.script_z[:, present].numpy()
    sides = {"up": (found.share_up, z), "down": (found.share_down, -z)}
    parts = []
    for i, name in enumerate(names):
        for side, (shares, mean_z) in sides.items():
            share = shares[:, present].numpy()
            for c, control in enumerate(controls):
                null = slice(len(names) + c * n_random, len(names) + (c + 1) * n_random)
                labels = {"emotion": name, "side": side, "control": control}
                columns = _against(share[i], share[null], mean_z[i], mean_z[null])
                scripts = [SCRIPTS[j] for j in present]
                rates = {"script": scripts, "base_rate": [words.base_rate[s] for s in scripts]}
                parts.append(pd.DataFrame(labels | rates | columns))
    return pd.concat(parts, ignore_index=True)


def _against(
    share: Float[np.ndarray, " s"],
    null: Float[np.ndarray, "m s"],
    z: Float[np.ndarray, " s"],
    z_null: Float[np.ndarray, "m s"],
) -> dict[str, Float[np.ndarray, " s"]]:
    """One vector's scripts against random directions; scripts differ in spread, hence one scale before correcting."""
    z_low, z_high = percentile_band(z_null)
    # |deviation| from the common mean in SDs; the moments include the observed value, which keeps the test exact
    both = np.concatenate([z[None], z_null])
    spread = both.std(0)
    away = np.abs(both - both.mean(0)) / np.where(spread > 0, spread, 1.0)
    return {
        "share": share,
        "null_mean": null.mean(0),
        **null_columns(share, null, standardise=True),
        "mean_z": z,
        "z_low": z_low,
        "z_high": z_high,
        "z_p": permutation_p(away[0], away[1:]),
        "z_p_corrected": max_corrected_p(away[0], away[1:]),
    }


# Directions read through the end of the model: folded final norm, then the unembedding. No [direction, d_vocab] tensor
# exists: the best tokens, the moments and the sums over scripts are kept while one pass goes through the vocabulary.

PIECE = 16_384  # tokens at a time: 16,384 x 3,072 weights in float32 are 200 MB
Logits = Callable[[Int[Tensor, " tokens"]], Float[Tensor, "rows tokens"]]


def final_norm_scale(model: Model) -> tuple[Float[Tensor, " d_model"], bool]:
    """The learned scale of the final norm in float32, and whether it subtracts the mean (LayerNorm).

    Measured on the model's own norm with a vector of signs, since its weight means different things: Gemma scales by
    1 + w, which one backend stores as it is and the other already added up. Works on any dtype: signs are exact.
    """
    d_model, device = int(model.cfg.d_model), device_of(model)
    dtype = next(model.ln_final.parameters()).dtype
    signs = torch.ones(d_model, device=device)
    signs[1::2] = -1
    # far from 0, where the norm's epsilon would count
    probes = 64 * torch.stack([signs, torch.ones_like(signs)])
    zero = torch.zeros(1, 1, d_model, device=device, dtype=dtype)
    with torch.inference_mode():
        bias = model.ln_final(zero)[0, 0].float()
        answer, constant = (model.ln_final(p.to(dtype)[None, None])[0, 0].float() - bias for p in probes)
    centred = bool(constant.abs().max() < 1e-2 * answer.abs().max())
    inner = signs - signs.mean() if centred else signs
    return (answer * inner.pow(2).mean().sqrt() / inner).clone(), centred


def fold(model: Model, directions: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
    """Directions as the final norm would weigh them: w * v, after centring v for a LayerNorm; its bias left out."""
    scale, centred = final_norm_scale(model)
    rows = directions.to(scale.device).float()
    return (rows - rows.mean(-1, keepdim=True) if centred else rows) * scale


def direction_logits(model: Model, directions: Float[Tensor, "rows d_model"]) -> Logits:
    """What the directions add to the logits of chosen tokens, up to one positive factor per direction."""
    rows, weight = fold(model, directions), model.W_U

    def of(ids: Int[Tensor, " tokens"]) -> Float[Tensor, "rows tokens"]:
        return rows @ weight[:, ids.to(weight.device)].detach().float()

    return of


def state_logits(model: Model, state: Float[Tensor, " d_model"], steps: Float[Tensor, "rows d_model"]) -> Logits:
    """Logits of chosen tokens at `state + step` less those at `state`, through the true final norm and soft cap."""
    device, dtype = device_of(model), next(model.ln_final.parameters()).dtype
    points = torch.cat([state[None], state + steps]).to(device, dtype)
    with torch.inference_mode():
        normed = model.ln_final(points[:, None])[:, 0].float().clone()
    weight, bias = model.W_U, model.b_U
    cap = getattr(model.cfg, "output_logits_soft_cap", None)

    def of(ids: Int[Tensor, " tokens"]) -> Float[Tensor, "rows tokens"]:
        chosen = ids.to(weight.device)
        logits = normed @ weight[:, chosen].detach().float() + bias[chosen].detach().float()
        logits = cap * torch.tanh(logits / cap) if cap and cap > 0 else logits
        return logits[1:] - logits[0]

    return of


@dataclass(frozen=True, eq=False, repr=False)
class Scan(Brief):
    """One pass of directions through the vocabulary.

    Attributes:
        top, bottom: indices into the vocabulary of the k highest and lowest logits, best first.
        top_z, bottom_z: their logits, standardised over the vocabulary per direction.
        script_z: mean standardised logit of each script in `SCRIPTS`; NaN for scripts without tokens.
        share_up, share_down: share of each script among the top and bottom k.
    """

    top: Int[Tensor, "rows k"]
    bottom: Int[Tensor, "rows k"]
    top_z: Float[Tensor, "rows k"]
    bottom_z: Float[Tensor, "rows k"]
    script_z: Float[Tensor, "rows n_scripts"]
    share_up: Float[Tensor, "rows n_scripts"]
    share_down: Float[Tensor, "rows n_scripts"]


@torch.inference_mode()
def scan(logits: Logits, words: Vocabulary, k: int) -> Scan:
    """Run once through the vocabulary; `k` is cut to its size. Float64 sums."""
    k, script = min(k, len(words)), torch.from_numpy(words.script)
    member = torch.nn.functional.one_hot(script, len(SCRIPTS)).double()
    ids, sums, squares = torch.from_numpy(words.ids), [], []
    best: dict[int, tuple[Tensor, Tensor]] = {}
    for start in range(0, len(ids), PIECE):
        values = logits(ids[start : start + PIECE]).cpu().double()
        sums.append(values @ member[start : start + values.shape[1]])
        squares.append((values**2).sum(1))
        for sign in (1, -1):
            best[sign] = _merge(best.get(sign), sign * values, start, k)
    total, n = torch.stack(sums).sum(0), len(words)
    mean = total.sum(1) / n
    spread = (torch.stack(squares).sum(0) / n - mean**2).clamp_min(0).sqrt()
    spread = spread.clamp_min(torch.finfo(spread.dtype).tiny)[:, None]
    (high, top), (low, bottom) = best[1], best[-1]
    return Scan(
        top=top,
        bottom=bottom,
        top_z=(high - mean[:, None]) / spread,
        bottom_z=(-low - mean[:, None]) / spread,
        script_z=(total / member.sum(0) - mean[:, None]) / spread,
        share_up=member[top].mean(1),
        share_down=member[bottom].mean(1),
    )


def _merge(
    known: tuple[Tensor, Tensor] | None, values: Float[Tensor, "rows tokens"], start: int, k: int
) -> tuple[Tensor, Tensor]:
    """The k highest of those known and a new piece, with their places in the vocabulary."""
    found, place = values.topk(min(k, values.shape[1]), dim=1)
    place = place + start
    if known is not None:
        found, place = torch.cat([known[0], found], 1), torch.cat([known[1], place], 1)
        found, order = found.topk(min(k, found.shape[1]), dim=1)
        place = place.gather(1, order)
    return found, place


# The vocabulary of a model as text: what each token says, and in which script it is written.

_BYTE_PIECE = regex.compile(r"<0x([0-9A-Fa-f]{2})>")
_CACHE: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary(Brief):
    """The tokens a text can hold: special tokens and rows of the unembedding without a token are left out.

    Attributes:
        ids: token ids, ascending.
        texts: what each says, with its leading space.
        script: its script, as an index into `SCRIPTS`; tokens that are no whole UTF-8 character are "bytes".
    """

    ids: Int[np.ndarray, " n_tokens"]
    texts: tuple[str, ...]
    script: Int[np.ndarray, " n_tokens"]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def base_rate(self) -> dict[str, float]:
        """Share of each script among the tokens; scripts without a token are left out."""
        count = Counter(self.script.tolist())
        return {name: count[i] / len(self) for i, name in enumerate(SCRIPTS) if count[i]}


def vocabulary(model: Model) -> Vocabulary:
    """The model's vocabulary (made once per tokenizer; about a second for 150,000 tokens).

    Raises:
        UnsupportedModelError: the model has no tokenizer.
    """
    tokenizer = tokenizer_of(model)
    if tokenizer not in _CACHE:
        _CACHE[tokenizer] = _read(tokenizer, int(model.cfg.d_vocab), special_ids(model))
    return _CACHE[tokenizer]


def _read(tokenizer: Any, d_vocab: int, special: frozenset[int]) -> Vocabulary:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = [i for i in range(min(len(tokenizer), d_vocab)) if i not in special and i not in added]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    known = [(i, piece) for i, piece in zip(ids, pieces, strict=True) if piece is not None]
    texts = _texts(tokenizer, known)
    scripts = [SCRIPTS.index(BYTES if text is None else main_script(text)) for text in texts]
    shown = tuple(piece if text is None else text for text, (_, piece) in zip(texts, known, strict=True))
    return Vocabulary(np.array([i for i, _ in known]), shown, np.array(scripts))


def _texts(tokenizer: Any, known: list[tuple[int, str]]) -> list[str | None]:
    """Text of each token; None where it is a part of a character only.

    Byte-level pieces are decoded (a part of a character comes out as U+FFFD, which is not taken for a letter).
    SentencePiece pieces are read as they stand: decoding one alone would drop its leading space.
    """
    decoder = str(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", "ByteLevel"))
    if "ByteLevel" in decoder:
        texts = tokenizer.batch_decode([[i] for i, _ in known], clean_up_tokenization_spaces=False)
        return [None if "\ufffd" in text else text for text in texts]
    return [_piece_text(piece) for _, piece in known]


def _piece_text(piece: str) -> str | None:
    byte = _BYTE_PIECE.fullmatch(piece)
    if byte is None:
        return piece.replace("▁", " ")
    value = int(byte.group(1), 16)
    return chr(value) if value < 0x80 else None
