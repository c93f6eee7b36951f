"""Cells of strangers' tables as numbers: decimal commas, signs of percent, shares in percent; or why they are none."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lens_emotion.files.user import shown

MISSING = ("", "nan", "none", "null", "na", "n/a", "-", "\u2013", "<na>")
NO_NUMBER = "is no number"
SHARES = ("accuracy", "rate", "chance", "judge_accuracy", "judge_chance", "loop_share")  # 0 to 1
SIGNED = ("reliability", "reliability_a", "reliability_b")  # shares too, which chance can put below 0
HUNDRED = 100.0
PERCENT_FROM = 2.0  # the largest share, from which it is no share a little above 1, such as a corrected reliability
PERCENT = re.compile(r"(.*?)(?:[\s_(\[]*%|[\s_(\[]+(?:pct|percent|percentage))\s*[)\]]?$")  # a name: "accuracy (%)"
_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$")
_DECIMAL = re.compile(r"^[+-]?(\d*|[1-9]\d{0,2}(\.\d{3})+),\d+$")  # also after points between thousands
_GROUPED = re.compile(r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$")


def bare(column: pd.Series) -> pd.Series:
    """Words of a column that may be numbers, without blanks around them and the sign of percent."""
    return (
        column.astype("string").str.strip().str.lower().str.replace("\u2212", "-").str.replace(r"\s*%$", "", regex=True)
    )


def has_decimal_commas(columns: Iterable[pd.Series]) -> bool:
    """Whether a comma somewhere can only be that of a decimal: "0,25", "-0,0492"; "1,292" could be both."""
    return any(_is_decimal(x) for c in columns if not pd.api.types.is_numeric_dtype(c) for x in bare(c).dropna())


def _is_decimal(said: str) -> bool:
    return bool(_DECIMAL.match(said)) and not _THOUSANDS.match(said)


def numbers(column: pd.Series, commas: bool = False, percent: bool = False) -> pd.Series:
    """Numbers, also in words of a spreadsheet: "92%", "1,292", "0,25".

    Args:
        commas: the table's decimals have commas. percent: the column's name says that it is in percent.

    Raises:
        ValueError: a cell that is no number, or commas that mean two things; the message says which.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float) / (HUNDRED if percent else 1.0)
    signed = column.astype("string").str.strip().str.endswith("%", na=False).to_numpy(bool)
    said = _without_commas(bare(column), commas)
    found = pd.to_numeric(said.str.removeprefix("layer").str.lstrip(" _l"), errors="coerce").astype(float)
    wrong = (found.isna() & said.notna() & ~said.isin(MISSING)).to_numpy(bool)
    if wrong.any():
        raise ValueError(f"row {int(wrong.argmax()) + 1}: {shown(str(column[wrong].iloc[0]))} {NO_NUMBER}")
    if signed.any() and not percent and bool((found[~signed].fillna(0) != 0).any()):
        raise ValueError("some numbers with % and some without")
    return found / np.where(signed | percent, HUNDRED, 1.0)


def _without_commas(said: pd.Series, commas: bool) -> pd.Series:
    """Decimals with points alone."""
    held = said[said.str.contains(",", na=False)]
    if not len(held):
        return said
    if not commas:
        return said.where(~said.str.match(_THOUSANDS, na=False), said.str.replace(",", ""))
    pointed = said[said.str.contains(".", regex=False, na=False) & ~said.str.match(_DECIMAL, na=False)]
    if not held.str.match(_DECIMAL).all() or not pointed.str.match(_GROUPED).all():
        raise ValueError("commas of decimals beside points of decimals, or commas between thousands")
    return said.str.replace(".", "", regex=False).str.replace(",", ".")


def in_percent(values: pd.Series, low: float = 0.0) -> bool:
    """Whether shares are in percent, as they can be nothing else; they are shares of 1 otherwise.

    Args:
        low: the least that such a share can be.

    Raises:
        ValueError: they could be both, or are neither.
    """
    held = values[np.isfinite(values)]
    held = held[held != 0]
    if held.between(low, 1).all():
        return False
    large = held.abs() > 1
    if (held < low * HUNDRED).any() or (held > HUNDRED).any():
        raise ValueError(f"{held.loc[held.abs().idxmax()]:g} is no share")
    if not large.all() or held.abs().max() < PERCENT_FROM:
        raise ValueError("shares or percent? some are above 1, and not all of them can be percent")
    return True
