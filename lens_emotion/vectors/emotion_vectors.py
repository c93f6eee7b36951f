"""EmotionVectors and EmotionVector: directions per emotion and layer, sizes kept apart, and algebra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import regex
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import panel
from lens_emotion.errors import ArtifactError, DoseError, LayerError, UnknownEmotionError
from lens_emotion.extraction.activations import Header, check_one_model, tell_former
from lens_emotion.files.artifacts import check_shapes, read_tensors, write_tensors
from lens_emotion.files.user import name_of
from lens_emotion.models.layers import layers_in_words, resolve_layer

KIND = "EmotionVectors"
AXES = {"directions": "e l d", "norms": "e l", "natural": "e l", "residual_norm": "l"}  # of the tensors in a file


def unit(x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
    """Rows scaled to length 1; a zero row stays zero."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


@dataclass(frozen=True, eq=False)
class EmotionVector:
    """One emotion, or a mixture of some, at every layer.

    The vector stands for a displacement of the residual stream: `natural[l] * direction[l]` is one natural unit at
    layer l, the way from the mean of all emotions to the mean of this one. Algebra acts on that displacement, so
    `0.5 * v` is half as far, `-v` the other way, and `0.5 * calm - 0.3 * angry` a mixture in natural units.

    Attributes:
        name: the emotion, or the expression of a mixture.
        direction: unit direction per layer.
        norm: length of the recipe's difference of means per layer, before scaling to 1.
        natural: ||mu_e - mu|| per layer, the natural unit of dose (METHODS: steering).
        residual_norm: E||h|| per layer, the relative unit of dose.
        header: where it comes from.
    """

    name: str
    direction: Float[Tensor, "n_layers d_model"]
    norm: Float[Tensor, " n_layers"]
    natural: Float[Tensor, " n_layers"]
    residual_norm: Float[Tensor, " n_layers"]
    header: Header

    @property
    def n_layers(self) -> int:
        return self.direction.shape[0]

    def at(self, layer: int) -> Float[Tensor, " d_model"]:
        """Unit direction at one layer (negative layers count from the end)."""
        return self.direction[resolve_layer(layer, self.n_layers, 0)]

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that have a direction; an imported vector may lack some."""
        return tuple(int(k) for k in self.direction.norm(dim=-1).nonzero())

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raises LayerError unless the vector has a direction at each of these layers."""
        if missing := sorted(set(layers) - set(self.layers)):
            held = layers_in_words(self.layers, self.n_layers)
            which = f"layer {layers_in_words(missing, 0)}: it has {held}" if self.layers else "any layer: it is zero"
            raise LayerError(f"'{self.name}' has no direction at {which}; give layers that it has")

    def cosine(self, other: EmotionVector) -> Float[Tensor, " n_layers"]:
        """Cosine with another vector, per layer."""
        return (self.direction * other.direction).sum(-1)

    def _combine(self, parts: list[tuple[float, EmotionVector]], name: str) -> EmotionVector:
        for _, part in parts:
            check_one_model((self.name, self.header), (part.name, part.header))
        displacement, by_norm = (
            torch.stack([c * getattr(p, size)[:, None] * p.direction for c, p in parts]).sum(0)
            for size in ("natural", "norm")
        )
        return replace(
            self, name=name, direction=unit(displacement), natural=displacement.norm(dim=-1), norm=by_norm.norm(dim=-1)
        )

    def __mul__(self, factor: float) -> EmotionVector:
        return self._combine([(float(factor), self)], f"{factor:g}*{self.name}")

    __rmul__ = __mul__

    def __truediv__(self, factor: float) -> EmotionVector:
        return self * (1.0 / factor)

    def __neg__(self) -> EmotionVector:
        return self._combine([(-1.0, self)], f"-{self.name}")

    def __add__(self, other: EmotionVector) -> EmotionVector:
        return self._combine([(1.0, self), (1.0, other)], f"{self.name} + {other.name}")

    def __sub__(self, other: EmotionVector) -> EmotionVector:
        return self._combine([(1.0, self), (-1.0, other)], f"{self.name} - {other.name}")

    @property
    def table(self) -> pd.DataFrame:
        """One row per layer: sizes in raw units, and the natural unit relative to the residual norm."""
        frame = pd.DataFrame({"layer": np.arange(self.n_layers)})
        for name in ("norm", "natural", "residual_norm"):
            frame[name] = getattr(self, name).numpy()
        return frame.assign(natural_relative=frame["natural"] / frame["residual_norm"])

    def _repr_html_(self) -> str:
        return panel(repr(self), self.table, code=True, what="sizes per layer")

    def __repr__(self) -> str:
        return f"EmotionVector({self.name!r}, {self.n_layers} layers x {self.direction.shape[1]}, {self.header.model})"


@dataclass(frozen=True, eq=False)
class EmotionVectors:
    """Unit directions of a set of emotions at every layer.

    Attributes:
        directions: unit vectors in the raw basis of `resid_post`.
        emotions: names, in the order of the first axis.
        norms: length of each difference of means before scaling to 1 (recipe's own baseline).
        natural: ||mu_e - mu|| with mu the mean over emotions, whatever the recipe: the natural unit of dose.
        residual_norm: E||h|| per layer.
        header: model, method, stimuli and recipe.
    """

    directions: Float[Tensor, "n_emotions n_layers d_model"]
    emotions: tuple[str, ...]
    norms: Float[Tensor, "n_emotions n_layers"]
    natural: Float[Tensor, "n_emotions n_layers"]
    residual_norm: Float[Tensor, " n_layers"]
    header: Header

    def __len__(self) -> int:
        return len(self.emotions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.emotions)

    def __contains__(self, emotion: object) -> bool:
        return emotion in self.emotions

    def __getitem__(self, emotion: str) -> EmotionVector:
        if emotion not in self.emotions:
            raise UnknownEmotionError(f"no vector for '{emotion}'; these vectors hold: {', '.join(self.emotions)}")
        i = self.emotions.index(emotion)
        return EmotionVector(
            emotion, self.directions[i], self.norms[i], self.natural[i], self.residual_norm, self.header
        )

    @property
    def n_layers(self) -> int:
        return self.directions.shape[1]

    @property
    def d_model(self) -> int:
        return self.directions.shape[2]

    def at(self, layer: int) -> Float[Tensor, "n_emotions d_model"]:
        """Unit directions of all emotions at one layer."""
        return self.directions[:, resolve_layer(layer, self.n_layers, 0)]

    def cosine(self, layer: int) -> Float[Tensor, "n_emotions n_emotions"]:
        """Similarity matrix at one layer."""
        u = self.at(layer)
        return u @ u.T

    @property
    def table(self) -> pd.DataFrame:
        """One row per emotion and layer: sizes in raw units and relative to the residual norm."""
        rows = pd.MultiIndex.from_product([self.emotions, range(self.n_layers)], names=["emotion", "layer"])
        frame = rows.to_frame(index=False)
        frame["norm"], frame["natural"] = self.norms.flatten().numpy(), self.natural.flatten().numpy()
        return frame.assign(natural_relative=frame["natural"] / np.tile(self.residual_norm.numpy(), len(self)))

    def random(self, seed: int = 0, like: str | None = None) -> EmotionVector:
        """A direction drawn uniformly per layer: the control of every steering result.

        Its natural size is that of emotion `like`, or the mean over emotions, so that equal doses are equal lengths.
        """
        generator = torch.Generator().manual_seed(seed)
        direction = unit(torch.randn(self.n_layers, self.d_model, generator=generator))
        rows = slice(None) if like is None else self.emotions.index(self[like].name)
        natural, norm = (x[rows] if like else x.mean(0) for x in (self.natural, self.norms))
        return EmotionVector(f"random[{seed}]", direction, norm, natural, self.residual_norm, self.header)

    def other(self, seed: int, like: str) -> EmotionVector:
        """The direction of another emotion, drawn at random, with the size of `like`: equal doses are equal lengths.

        Any other emotion may be drawn, a close relative too: the control errs on the strict side.

        Raises:
            DoseError: there is no other emotion.
        """
        mine = self[like]
        rest = [e for e in self.emotions if e != mine.name]
        if not rest:
            raise DoseError("the control 'other' needs vectors of at least two emotions; use random directions only")
        drawn = self[rest[int(np.random.default_rng(seed).integers(len(rest)))]]
        return replace(drawn, natural=mine.natural, norm=mine.norm)

    def save(self, path: str | Path) -> Path:
        """Write to a safetensors file, atomically."""
        tensors = {name: getattr(self, name) for name in AXES}
        return write_tensors(path, KIND, tensors, {"header": self.header.to_dict(), "emotions": list(self.emotions)})

    @staticmethod
    def load(path: str | Path) -> EmotionVectors:
        """Read a file written by `save`. Raises ArtifactError if it is missing, corrupt or of another kind."""
        tensors, meta = read_tensors(path, KIND, tuple(AXES))
        held, names = check_shapes(path, tensors, AXES), meta.get("emotions")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ArtifactError(f"{path} does not name its vectors; make it again")
        if not len(set(names)) == len(names) == len(held["directions"]):
            raise ArtifactError(f"{path} does not name each of its {len(held['directions'])} vectors; make it again")
        header = Header.from_dict(meta.get("header", {}))
        tell_former(path, header)
        return EmotionVectors(emotions=tuple(names), header=header, **held)

    def __repr__(self) -> str:
        return (
            f"EmotionVectors({len(self)} emotions x {self.n_layers} layers x {self.d_model}, "
            f"{self.header.recipe}, {self.header.method}, {self.header.model})"
        )

    def _repr_html_(self) -> str:
        middle = self.table[self.table.layer == self.n_layers // 2].drop(columns="layer")
        return panel(repr(self), middle, code=True, what=f"sizes at layer {self.n_layers // 2}")


# Mixtures of emotions in words, and the random direction that a mixture is compared with.
Terms = Sequence[tuple[float, str]]  # weight, emotion
# letters of any script with their marks; a name with spaces or hyphens in quotes
_NAME = r"""[\p{L}_][\p{L}\p{M}\p{N}_]*|'[^']+'|"[^"]+\""""
LARGEST = 1e6  # of weights and doses: beyond, single precision overflows
_TERM = r"\s*([+-]?)\s*(?:([0-9]*\.?[0-9]+)\s*\*)?\s*(%s)\s*"


def parse_mixture(words: str, names: Iterable[str] = ()) -> list[tuple[float, str]]:
    """ "calm", or a mixture: "0.5*calm - 0.3*angry" -> [(0.5, "calm"), (-0.3, "angry")].

    Names are of any script; one with spaces or hyphens stands in quotes: "0.5*'in love' - calm". Those of `names`, the
    vectors at hand, need none.

    Raises:
        DoseError: words that are no such expression, a weight beyond 1e6.
    """
    terms: list[tuple[float, str]] = []
    at = 0
    known = "".join(rf"{regex.escape(n)}(?![\p{{L}}\p{{M}}\p{{N}}_-])|" for n in sorted(names, key=len, reverse=True))
    term = regex.compile(_TERM % (known + _NAME))
    while at < len(words):
        match = term.match(words, at)
        if match is None or (terms and not match[1]):
            raise DoseError(f"cannot read {words!r} as an emotion or a mixture such as '0.5*calm - 0.3*angry'")
        terms.append((float(match[2] or 1) * (-1 if match[1] == "-" else 1), name_of(match[3].strip("'\""))))
        at = match.end()
    if not terms:
        raise DoseError("no emotion given; give one, or a mixture such as '0.5*calm - 0.3*angry'")
    _check_weights(terms)
    if not any(sum(weight for weight, emotion in terms if emotion == e) for _, e in terms):
        raise DoseError(f"the weights of {words!r} are all 0 in sum; such a mixture has no direction")
    return terms


def _check_weights(terms: Terms) -> None:
    for weight, emotion in terms:
        if not abs(weight) <= LARGEST:  # nor NaN
            raise DoseError(f"weight {weight:g} of {emotion} is no number up to {LARGEST:g}; usual weights are near 1")


def mixture(vectors: EmotionVectors, terms: Terms) -> EmotionVector:
    """The weighted sum of vectors, in natural units; a single emotion with weight 1 is itself.

    Raises:
        UnknownEmotionError: an emotion without a vector.
        DoseError: no emotion, or weights that are all 0: such a mixture has no direction; a weight beyond 1e6.
    """
    _check_weights(terms)
    made = None
    for weight, emotion in terms:
        size = weight if made is None else abs(weight)
        part = vectors[emotion] if size == 1 else size * vectors[emotion]
        made = part if made is None else made + part if weight >= 0 else made - part
    if made is None or not any(weight for weight, _ in terms):
        raise DoseError("no emotion with a weight other than 0; give one, or a mixture such as '0.5*calm - 0.3*angry'")
    return made


def random_like(vectors: EmotionVectors, vector: EmotionVector, seed: int = 0) -> EmotionVector:
    """A random direction of the sizes of `vector`, so that equal doses are equal lengths, in either unit."""
    drawn = vectors.random(seed)
    return replace(vector, name=drawn.name, direction=drawn.direction)
