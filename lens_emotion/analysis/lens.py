"""Logit lens of emotion vectors: which tokens, in which scripts, a vector brings out, without generating a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import false_discovery_control
from torch import Tensor

from lens_emotion.analysis.results import ALPHA, NOISE, AnalysisError, place, resolve_layer, result_html
from lens_emotion.analysis.stats import max_corrected_p, percentile_band, permutation_p
from lens_emotion.analysis.unembedding import Scan, direction_logits, scan, state_logits
from lens_emotion.analysis.vocabulary import Vocabulary, vocabulary
from lens_emotion.errors import FingerprintError, UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.access import Model, check_raw_basis, describe
from lens_emotion.stimuli.scripts import SCRIPTS
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors, unit
from lens_emotion.vectors.recipes import check_finite

ISOTROPIC, MATCHED = "isotropic", "matched"


@dataclass(frozen=True, eq=False)
class Lens:
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

    def summary(self) -> str:
        """One sentence on the top tokens, one on the scripts against the strictest control there is."""
        first = str(self.table["emotion"].iloc[0])
        words = ", ".join(repr(token) for token in self.tokens(first, n=5))
        return f"At {place(self.layer, self.n_layers)} of {self.model}, '{first}' brings out {words}. {self._scripts()}"

    def _scripts(self) -> str:
        control = MATCHED if MATCHED in set(self.scripts["control"]) else ISOTROPIC
        rows = self.scripts[(self.scripts["control"] == control) & (self.scripts["side"] == "up")]
        best = rows.loc[rows.groupby("emotion", sort=False)["p_corrected"].idxmin()]
        n, kind = len(best), f"{self.n_random} {control} random directions"
        found = best[false_discovery_control(best["p_corrected"]) <= ALPHA]
        if found.empty:
            return f"No vector of {n} brings out a script beyond {kind}: {NOISE}."
        names = ", ".join(f"{r.emotion} {r.script} {r.share:.2f}" for r in found.head(4).itertuples())
        return (
            f"{len(found)} of {n} vectors bring out a script among their top {self.k} tokens beyond {kind} "
            f"(q <= {ALPHA} over vectors, corrected over scripts; {names}{', ...' * (len(found) > 4)})."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


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

    Raises:
        FingerprintError: vectors or activations of another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnsupportedModelError: vectors of another shape than the model, or a model without tokenizer.
        AnalysisError: no such layer, or top, n_random or k below 1.
    """
    name = _check(model, vectors, (acts, at), allow_other_model, allow_processed)
    _check_counts(top=top, n_random=n_random, k=k)
    layer = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    names, rows, sizes = _rows(vectors, layer)
    controls = random_controls(rows.shape[1], n_random, seed, None if acts is None else acts.values[:, layer])
    everything = torch.cat([rows, *controls.values()])
    if at is None:
        logits, form = direction_logits(model, everything), "direction"
    else:
        lengths = torch.cat([sizes, sizes.mean().expand(len(everything) - len(rows))])
        logits = state_logits(model, _state(at, layer), dose * lengths[:, None] * everything)
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
    for header in (vectors.header, *(x.header for x in others if isinstance(x, PooledActivations))):
        if not other_model and header.fingerprint != info.fingerprint:
            raise FingerprintError(
                f"made on {header.model}, not on {info.name}; extract on this model, or pass allow_other_model=True"
            )
    return info.name


def _check_counts(**options: int) -> None:
    for option, value in options.items():
        if value < 1:
            raise AnalysisError(f"{option} is {value}; give at least 1")


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
        check_finite(texts[:, None])
        rows = texts.cpu().double()
        mixture = torch.randn(n, len(rows), generator=generator, dtype=torch.float64)
        controls[MATCHED] = unit(mixture @ (rows - rows.mean(0))).float()
    return controls


def _state(at: PooledActivations | Tensor, layer: int) -> Float[Tensor, " d_model"]:
    if isinstance(at, PooledActivations):
        return at.values[:, layer].cpu().double().mean(0).float()
    return at.detach().cpu().float()


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
    order = frame["emotion"].map({name: i for i, name in enumerate(names)})
    return frame.assign(order=order).sort_values("order", kind="stable", ignore_index=True).drop(columns="order")


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
    (low, high), (z_low, z_high) = percentile_band(null), percentile_band(z_null)
    away, away_null = _distance(z, z_null)
    return {
        "share": share,
        "null_mean": null.mean(0),
        "null_low": low,
        "null_high": high,
        "p": permutation_p(share, null),
        "p_corrected": max_corrected_p(share, null, standardise=True),
        "mean_z": z,
        "z_low": z_low,
        "z_high": z_high,
        "z_p": permutation_p(away, away_null),
        "z_p_corrected": max_corrected_p(away, away_null),
    }


def _distance(observed: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|deviation| from the common mean in SDs; the moments include the observed value, which keeps the test exact."""
    both = np.concatenate([observed[None], null])
    spread = both.std(0)
    away = np.abs(both - both.mean(0)) / np.where(spread > 0, spread, 1.0)
    return away[0], away[1:]
