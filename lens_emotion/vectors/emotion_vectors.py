"""EmotionVectors and EmotionVector: directions per emotion and layer, sizes kept apart, and algebra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import regex
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import panel
from lens_emotion.errors import ArtifactError, DoseError, LayerError, UnknownEmotionError
from lens_emotion.extraction.activations import Header, check_one_model, tell_former
from lens_emotion.files.artifacts import check_tensors, from_file, part_of, read_tensors, refuse_where, write_tensors
from lens_emotion.files.names import check_label, check_labels, name_of
from lens_emotion.files.user import LARGEST_DOSE, SMALLEST_DOSE
from lens_emotion.models.layers import layers_in_words, resolve_layer

KIND = "EmotionVectors"
# of the tensors, also in a file
AXES = {
    "directions": "emotions layers d_model",
    "norms": "emotions layers",
    "natural": "emotions layers",
    "residual_norm": "layers",
}
TINIEST = 1e-30  # of a size: a product with it is still a number of single precision
LARGEST = 1e6  # of weights and doses: beyond, single precision overflows
WITHIN = 1e-3  # of a length: single precision keeps 1e-6, half precision that was widened 6e-4
ONE = {"direction": "layers d_model", "norm": "layers", "natural": "layers", "residual_norm": "layers"}
_SQUARES = 1e-15  # rows shorter than this, or longer than its inverse, have squares beyond single precision


def unit(x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
    """Rows scaled to length 1; a zero row stays zero."""
    return unit_and_length(x)[0]


def unit_and_length(x: Float[Tensor, "*lead d_model"]) -> tuple[Float[Tensor, "*lead d_model"], Float[Tensor, "*lead"]]:
    """Rows scaled to length 1, and how long they were; right also where squares of the entries under- or overflow."""
    length = x.norm(dim=-1, keepdim=True)
    power = torch.zeros_like(length, dtype=torch.int32)
    if not bool(((length > _SQUARES) & (length < 1 / _SQUARES)).all()):
        power = torch.frexp(x.abs().amax(-1, keepdim=True))[1].clamp(-100, 100)
        x = torch.ldexp(x, -power)  # powers of two, which change no digit
        length = x.norm(dim=-1, keepdim=True)
    return x / length.clamp_min(torch.finfo(x.dtype).tiny), torch.ldexp(length, power).squeeze(-1)


def _is_real(x: object) -> bool:  # apart, since a type checker knows of a Real that it has no order
    return isinstance(x, Real) and not isinstance(x, bool)


def as_number(x: object, what: str, fix: str = "give a number") -> float:
    """A number of the user's, also a NumPy or torch scalar.

    Raises:
        DoseError: no number (nor are True and "3"), NaN, or one beyond 1e6.
    """
    one = getattr(x, "ndim", None) == 0 and getattr(x, "dtype", None) not in (torch.bool, np.bool_)
    plain: Any = x.item() if one else x  # type: ignore[attr-defined]
    if not _is_real(plain):
        raise DoseError(f"{what} {repr(x)[:40]} is no number; {fix}")
    if not -LARGEST <= plain <= LARGEST:  # nor NaN; beyond, single precision overflows
        shown = f"{plain:g}" if isinstance(plain, float) else "of that size"
        raise DoseError(f"{what} {shown} is no number up to {LARGEST:g}; {fix}")
    return float(plain)


def dose_number(x: object, fix: str = "0 to 16 natural units is the usual range") -> float:
    """A dose as a number: 0, or one whose push single precision holds.

    Raises:
        DoseError: no number, or one of another size.
    """
    dose = as_number(x, "dose", fix)
    if dose and abs(dose) < SMALLEST_DOSE:
        raise DoseError(
            f"dose {dose:g} is neither 0 nor a number from {SMALLEST_DOSE:g}, below which single precision rounds it "
            f"away, up to {LARGEST_DOSE:g}; {fix}"
        )
    return dose


def joint_header(headers: Sequence[Header]) -> Header:
    """The header of what was made of several: the first, with every recipe named."""
    return headers[0].with_(recipe=" / ".join(dict.fromkeys(h.recipe for h in headers if h.recipe)))


def _check(tensors: Sequence[Tensor], axes: Mapping[str, str], header: Header) -> None:
    """What the directions and sizes of vectors mean, one emotion's or a set's (`AXES`, in this order).

    Raises:
        ArtifactError: not finite float32 of sizes that fit; a direction that is neither of length 1 nor zero (none at
            that layer); a size below 0; a natural unit of 0 where there is a direction; a residual norm that is not
            positive; sizes that differ although the recipe is "centred", where both are
            ||mu_e - mu||.
    """
    if not isinstance(header, Header):
        raise ArtifactError(f"header is {type(header).__name__}; give the Header that says where the vectors come from")
    check_tensors(dict(zip(axes, tensors, strict=True)), axes)
    directions, norms, natural, residual_norm = tensors
    name, norm, unit_of_dose, residual = axes
    length = directions.norm(dim=-1)
    none = (length == 0) & ~directions.any(-1)
    refuse_where(
        f"the length of {name}", length, ~none & ((length - 1).abs() > WITHIN),
        "must be 1, or 0 for none at that layer; divide by it (vectors.emotion_vectors.unit), sizes stand beside",
    )  # fmt: skip
    refuse_where(norm, norms, norms < 0, "is a length, which is not below 0")
    refuse_where(unit_of_dose, natural, natural < 0, "is a length, which is not below 0")
    refuse_where(
        unit_of_dose, natural, (natural < TINIEST) & ~none,
        f"must be above 0 where there is a direction, and at least {TINIEST:g}: less is rounded away",
    )  # fmt: skip
    refuse_where(residual, residual_norm, residual_norm <= 0, "must be above 0, a mean length")
    if header.recipe == "centred":
        apart = (norms - natural).abs() > WITHIN * natural
        refuse_where(norm, norms, apart, f"must be {unit_of_dose} in vectors of the recipe 'centred'")


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

    Raises:
        ArtifactError: see `_check`; a name that is empty, of several lines or not in composed letters.

    Example:
        >>> mixed = 0.5 * vectors["calm"] - 0.3 * vectors["angry"]
        >>> mixed.direction.shape
        torch.Size([6, 64])
    """

    name: str
    direction: Float[Tensor, "n_layers d_model"]
    norm: Float[Tensor, " n_layers"]
    natural: Float[Tensor, " n_layers"]
    residual_norm: Float[Tensor, " n_layers"]
    header: Header

    def __post_init__(self) -> None:
        check_label("a vector's name", self.name)
        _check([getattr(self, name) for name in ONE], ONE, self.header)

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
        (direction, natural), (_, norm) = (
            unit_and_length(torch.stack([c * getattr(p, size)[:, None] * p.direction for c, p in parts]).sum(0))
            for size in ("natural", "norm")
        )
        header = joint_header([part.header for _, part in parts])
        return replace(self, name=name, direction=direction, natural=natural, norm=norm, header=header)

    def __mul__(self, factor: float) -> EmotionVector:
        weight = as_number(factor, "weight")
        return self._combine([(weight, self)], f"{weight:g}*{self.name}")

    __rmul__ = __mul__

    def __truediv__(self, factor: float) -> EmotionVector:
        if not as_number(factor, "divisor"):
            raise DoseError(f"cannot divide '{self.name}' by 0; give another number")
        return self * (1.0 / factor)

    def __neg__(self) -> EmotionVector:
        return self._combine([(-1.0, self)], f"-{self.name}")

    def __add__(self, other: EmotionVector) -> EmotionVector:
        if not isinstance(other, EmotionVector):
            raise ArtifactError(_no_sum(self.name, other))
        return self._combine([(1.0, self), (1.0, other)], f"{self.name} + {other.name}")

    def __radd__(self, other: object) -> EmotionVector:
        if other == 0:  # where `sum` begins
            return self
        raise ArtifactError(_no_sum(self.name, other))

    def __sub__(self, other: EmotionVector) -> EmotionVector:
        if not isinstance(other, EmotionVector):
            raise ArtifactError(_no_sum(self.name, other))
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
        n, width = self.direction.shape
        some = f"at layer{'s' * (len(self.layers) != 1)} {', '.join(map(str, self.layers))} of {n}, width {width}"
        what = f"{n} layers x {width}" if len(self.layers) == n else some
        return f"EmotionVector({self.name!r}, {what}, {self.header.model})"


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

    Raises:
        ArtifactError: see `_check`; names that are no names, or not one for each vector: in memory, when a file is
            read, and before it is written.

    Example:
        >>> vectors.directions.shape, len(vectors)
        (torch.Size([20, 6, 64]), 20)
        >>> vectors["calm"].name
        'calm'
    """

    directions: Float[Tensor, "n_emotions n_layers d_model"]
    emotions: tuple[str, ...]
    norms: Float[Tensor, "n_emotions n_layers"]
    natural: Float[Tensor, "n_emotions n_layers"]
    residual_norm: Float[Tensor, " n_layers"]
    header: Header

    def __post_init__(self) -> None:
        if not isinstance(self.emotions, tuple):
            raise ArtifactError(f"emotions are {str(self.emotions)[:80]}; give a tuple of names")
        check_labels("an emotion's name", self.emotions)
        _check([getattr(self, name) for name in AXES], AXES, self.header)
        if not self.emotions:
            raise ArtifactError("no emotion is named; give at least one vector and its name")
        if len(self.emotions) != len(self.directions):
            raise ArtifactError(f"{len(self.directions)} directions but {len(self.emotions)} names; they must match")

    def __len__(self) -> int:
        return len(self.emotions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.emotions)

    def __contains__(self, emotion: object) -> bool:
        return emotion in self.emotions

    def __getitem__(self, emotion: str) -> EmotionVector:
        if not isinstance(emotion, str) or emotion not in self.emotions:
            raise UnknownEmotionError(f"no vector for {_meant(emotion, self.emotions)}")
        i = self.emotions.index(emotion)
        held = {"direction": self.directions[i], "norm": self.norms[i], "natural": self.natural[i]}
        return part_of(EmotionVector, name=emotion, residual_norm=self.residual_norm, header=self.header, **held)

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
        direction = _where_sized(direction, natural)
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
        direction = _where_sized(drawn.direction, mine.natural)
        return replace(drawn, direction=direction, natural=mine.natural, norm=mine.norm)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write to a safetensors file, atomically.

        A file of the same kind that lies there is replaced, as by `numpy.save`; of another kind only with `overwrite`.

        Raises:
            ArtifactError: a file of another kind lies there, or it cannot be written.
        """
        self.__post_init__()  # a tensor may have been written into
        tensors = {name: getattr(self, name) for name in AXES}
        meta = {"header": self.header.to_dict(), "emotions": list(self.emotions)}
        return write_tensors(path, KIND, tensors, meta, overwrite)

    @staticmethod
    def load(path: str | Path) -> EmotionVectors:
        """Read a file written by `save`. Raises ArtifactError if it is missing, corrupt or of another kind."""
        tensors, meta = read_tensors(path, KIND, tuple(AXES))
        with from_file(path):
            names, header = meta.get("emotions"), Header.from_dict(meta.get("header", {}))
            made = EmotionVectors(**tensors, emotions=tuple(names) if isinstance(names, list) else (), header=header)
        tell_former(path, made.header)
        return made

    def __repr__(self) -> str:
        return (
            f"EmotionVectors({len(self)} emotions x {self.n_layers} layers x {self.d_model}, "
            f"{self.header.recipe}, {self.header.method}, {self.header.model})"
        )

    def _repr_html_(self) -> str:
        middle = self.table[self.table.layer == self.n_layers // 2].drop(columns="layer")
        return panel(repr(self), middle, code=True, what=f"sizes at layer {self.n_layers // 2}")


def _no_sum(name: str, other: object) -> str:
    what = f"{repr(other)[:40]}, a {type(other).__name__}"
    return f"'{name}' and {what}, do not add up; give two vectors (of an array le.vector(array, model) makes one)"


def _meant(given: object, names: Sequence[str]) -> str:
    """What was asked for instead of one emotion's name, and how to get it."""
    held = f"these vectors hold: {', '.join(names)}"
    if not isinstance(given, str):
        several = isinstance(given, Iterable)
        way = "[vectors[e] for e in names] makes several" if several else f"a name is text, such as {names[0]!r}"
        return f"{repr(given)[:60]}; {way}; {held}"
    folded = {name.casefold(): name for name in names}
    close = get_close_matches(given.strip().casefold(), folded, n=1)
    if not close and regex.search(r"[*+]|\s-\s", given):
        return f"'{given:.60}'; for a mixture write le.mixture(vectors, {given[:60]!r}); {held}"
    hint = f"did you mean '{folded[close[0]]}'? " if close else ""
    return f"'{given:.60}'; {hint}{held}"


# Mixtures of emotions in words, and the random direction that a mixture is compared with.
Terms = Sequence[tuple[float, str]]  # weight, emotion
MIXTURE = "le.mixture(vectors, '0.5*calm - 0.3*angry'), or {'calm': 0.5, 'angry': -0.3} for the words"
# letters of any script with their marks; a name with spaces or hyphens in quotes
_NAME = r"""[\p{L}_][\p{L}\p{M}\p{N}_]*|'[^']+'|"[^"]+\""""
_TERM = r"\s*([+-]?)\s*(?:([0-9]*\.?[0-9]+)(?:\s*\*|(?=\s)))?\s*(%s)\s*"


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


def _terms(given: Any, names: Sequence[str]) -> Terms:
    """Weights and emotions of any form that `mixture` takes."""
    if isinstance(given, str):
        return parse_mixture(given, names)
    pairs = [(w, e) for e, w in given.items()] if isinstance(given, Mapping) else given
    if isinstance(pairs, EmotionVector) or not isinstance(pairs, Iterable) or not getattr(pairs, "ndim", 1):
        raise DoseError(f"{repr(given)[:60]} is no mixture; write {MIXTURE}")
    found: list[tuple[float, str]] = []
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[1], str):
            turned = " (the weight comes first)" if isinstance(pair, Sequence) and isinstance(pair[0], str) else ""
            raise DoseError(f"{repr(pair)[:60]} is no weight with an emotion{turned}; write {MIXTURE}")
        found.append((pair[0], pair[1]))
    return found


def _check_weights(terms: Terms) -> None:
    for weight, emotion in terms:
        as_number(weight, f"weight of {emotion}", "usual weights are near 1")


def mixture(vectors: EmotionVectors, terms: str | Terms | Mapping[str, float]) -> EmotionVector:
    """The weighted sum of vectors, in natural units; a single emotion with weight 1 is itself.

        le.mixture(vectors, "0.5*calm - 0.3*angry")  # as 0.5 * vectors["calm"] - 0.3 * vectors["angry"]

    Args:
        vectors: of one model.
        terms: in words, as `{"calm": 0.5, "angry": -0.3}`, or as pairs of weight and emotion.

    Raises:
        UnknownEmotionError: an emotion without a vector.
        DoseError: no emotion, or weights that are all 0: such a mixture has no direction; a weight beyond 1e6;
            arguments in another order.

    Example:
        >>> le.mixture(vectors, "0.5*calm - 0.3*angry").name
        '0.5*calm - 0.3*angry'
    """
    if not isinstance(vectors, EmotionVectors):
        swapped = "the vectors come first: " if isinstance(terms, EmotionVectors) else ""
        raise DoseError(f"{type(vectors).__name__} is no EmotionVectors; {swapped}{MIXTURE}")
    terms = _terms(terms, vectors.emotions)
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
    return replace(vector, name=drawn.name, direction=_where_sized(drawn.direction, vector.natural))


def _where_sized(
    direction: Float[Tensor, "n_layers d_model"], natural: Float[Tensor, " n_layers"]
) -> Float[Tensor, "n_layers d_model"]:
    """The directions of those layers that have a natural unit; none at the others."""
    return direction.where(natural[:, None] > 0, torch.zeros(()))
