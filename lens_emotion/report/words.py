"""How tables speak to readers: plain headers for column names, numbers in three digits, p at its floor as that."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real

# columns of the tables that a page shows; any other keeps its words, without underscores
HEADERS = {
    "a": "first",
    "b": "second",
    "d": "Cohen's d",
    "df": "degrees of freedom",
    "distinct_2": "distinct-2",
    "dose_natural": "dose (natural)",
    "dose_relative": "dose (relative)",
    "foreign": "foreign letters",
    "changed": "texts changed",
    "looping": "loops",
    "high": "95% to",
    "low": "95% from",
    "macro_f1": "macro F1",
    "mean_cosine": "mean cosine",
    "moved": "score rises",
    "n": "n",
    "no_text": "without text",
    "null_mean": "null, mean",
    "other": "another emotion's vector",
    "others": "other emotions' words",
    "p_corrected": "p, corrected",
    "q": "q (false discovery rate)",
    "r": "r",
    "rho": "rho",
    "target": "target's words",
    "top_emotions": "emotions ranked first",
    "warning": "note",
}
# parts of names, said after what they belong to: "other_success_low" is "another emotion's vector: success, 95% from"
BEGINS = {"other_": "another emotion's vector: ", "null_": "null: ", "p_": "p against ", "cosine_": "cosine: "}
ENDS = {
    "_standardised": ", standardised",
    "_low": ", 95% from",
    "_high": ", 95% to",
    "_rate": ", share",
    "_p": ", p",
    "_p_corrected": ", p, corrected",
}
SIDES = {"_a": " of the first", "_b": " of the second"}


def header(column: object) -> str:
    """A column's name in plain words."""
    name = str(column)
    if name in HEADERS:
        return HEADERS[name]
    for start, words in BEGINS.items():
        if name.startswith(start):
            return words + header(name.removeprefix(start)).removeprefix("95% ")
    for end, words in {**ENDS, **SIDES}.items():
        if name.endswith(end) and name != end:
            return header(name.removesuffix(end)) + words
    return name.replace("_", " ")


def number(value: object) -> str:
    """A value as the tables print it: three significant digits, an en dash for what is missing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}" if abs(int(value)) >= 100_000 else str(value)
    real = float(value)
    if math.isnan(real):
        return "–"
    return f"{real:.3f}" if 0.001 <= abs(real) < 1 else f"{real:.4g}"


def at_floor(p: float) -> str:
    """The smallest p that so many permutations can give, rounded up: what is said holds."""
    unit = 10.0 ** (math.floor(math.log10(p)) - 1)
    return f"≤ {math.ceil(p / unit - 1e-9) * unit:.2g} (floor)"


def entry(value: object, column: object, floors: Sequence[float] = ()) -> str:
    """A value of a column: a p-value at its floor says that no hit could have made it smaller."""
    is_p = re.match(r"(p|q)(_|$)|.*_p(_|$)", str(column))
    if is_p and isinstance(value, float) and any(math.isclose(value, f, rel_tol=1e-9) for f in floors):
        return at_floor(value)
    return number(value)
