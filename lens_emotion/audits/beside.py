"""What a column means beside the others of its table: counts or percent, arms that stand where methods do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lens_emotion.audits.cells import HUNDRED, PERCENT, in_percent
from lens_emotion.audits.wording import is_control
from lens_emotion.display import Brief

COUNTS = ("success", "accuracy", "rate")  # of which one is taken, in this order
ONE_EACH = "each row is one text, true or false"
COUNT_OR_PERCENT = "so many of n, or percent? say which (columns=: success or rate)"


@dataclass(frozen=True, eq=False, repr=False)
class Given(Brief):
    """A table as it came, under our names.

    Attributes:
        named: our name -> theirs. told: of ours, those that were not guessed.
    """

    frame: pd.DataFrame
    named: Mapping[str, Any]
    told: set[str]

    def called(self, m: str) -> str:
        return str(self.named.get(m, m)).strip().lower()

    def in_percent(self, m: str) -> bool:
        """Whether a column's name says that it is in percent."""
        return bool(PERCENT.match(self.called(m)))

    def is_rate(self, m: str) -> bool:
        """Whether its name, or the sign in its cells, says that it is a share."""
        signed = self.frame[m].astype("string").str.contains("%", regex=False, na=False).any()
        return bool(signed) or self.in_percent(m) or any(w in self.called(m) for w in ("rate", "share", "level"))


def fitting(frame: pd.DataFrame, given: Given, percent: list[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Columns as what they can be beside the others; why one was left out, where it could be two things.

    Args:
        frame: as read, shares of 1. percent: which were read as percent, without a sign of it.
    """
    if "condition" not in frame and "method" in frame and "method" not in given.told and _are_arms(frame[["method"]]):
        frame = frame.rename(columns={"method": "condition"})
    unread = {}
    if _is_count_too(frame, "judge_accuracy", "judge_n", percent):
        unread["judge_accuracy"] = COUNT_OR_PERCENT
    k = next((c for c in COUNTS if c in frame), None)
    if k is None or "n" not in frame:
        return frame.drop(columns=list(unread)), unread
    if "n" not in given.told and _is_true_or_false(frame[k]):
        return frame.drop(columns="n"), {"n": ONE_EACH}
    if k == "accuracy" and "chance" not in percent and _is_count_too(frame, k, "n", percent):
        unread[k] = COUNT_OR_PERCENT
    if k == "success" and "success" not in given.told and pd.api.types.is_numeric_dtype(frame[k]):
        frame, reason = _success(frame, given)
        unread |= {"success": reason} if reason else {}
    counted = "success" in frame and _counts(frame["success"])
    if counted and "chance" in percent and not given.is_rate("chance") and _is_count_too(frame, "chance", "n", percent):
        unread["chance"] = "an expected number of n, or percent?"
    if "control" in frame:
        frame, reason = _control(frame, given, counted, bool(percent))
        unread |= {"control": reason} if reason else {}
    return frame.drop(columns=list(unread)), unread


def _are_arms(methods: pd.DataFrame) -> bool:
    """Whether some of these methods, not all, are what nothing is claimed of: "random", "no steering"."""
    arms = is_control(methods)
    return bool(arms.any() and not arms.all())


def _is_true_or_false(column: pd.Series) -> bool:
    said = column.dropna()
    return len(said) > 0 and bool(said.map(lambda x: str(x).strip().lower() in ("true", "false", "yes", "no")).all())


def _counts(column: pd.Series) -> bool:
    """Whether successes are counts, not shares."""
    return pd.api.types.is_numeric_dtype(column) and bool((column > 1).any() or column.dropna().isin([0, 1]).all())


def _whole(values: pd.Series, n: pd.Series) -> bool:
    """Whether these can be counts of n."""
    held = values.round(6)
    return bool(((held % 1 == 0) & (held <= n))[values.notna() & n.notna()].all())


def _is_count_too(frame: pd.DataFrame, m: str, n: str, percent: list[str]) -> bool:
    """Whether what was read as percent could be so many of n as well; of 100 it would be the same."""
    if m not in percent or m not in frame or n not in frame:
        return False
    return not bool((frame[n].dropna() == HUNDRED).all()) and _whole(frame[m] * HUNDRED, frame[n])


def _success(frame: pd.DataFrame, given: Given) -> tuple[pd.DataFrame, str]:
    """Successes that can be nothing but shares as rates; a reason, where they could be counts or percent."""
    column, n = frame["success"].astype(float), frame["n"]
    shares = column / HUNDRED
    if given.is_rate("success"):
        shares = column
    elif not (column > 1).any() or not column.dropna().between(0, HUNDRED).all():
        return frame, ""
    elif _whole(column, n):
        raw = given.frame
        doubtful = pd.api.types.is_float_dtype(raw["success"]) and pd.api.types.is_integer_dtype(raw["n"])
        doubtful = doubtful and not raw["success"].isna().any() and not bool((n == HUNDRED).all())
        return frame, COUNT_OR_PERCENT if doubtful and given.called("success") == "success" else ""
    elif bool((column % 1 == 0).all()):
        return frame, "not between 0 and n"
    else:
        try:
            in_percent(column)
        except ValueError as error:
            return frame, str(error)
    return frame.drop(columns=["success", *(c for c in ("rate",) if c in frame)]).assign(rate=shares), ""


def _control(frame: pd.DataFrame, given: Given, counted: bool, percent: bool) -> tuple[pd.DataFrame, str]:
    """The control as the successes beside it are: counts, or shares of 1."""
    column, n = frame["control"], frame["n"]
    shares = given.is_rate("control")
    if counted and not shares:
        other = "control_n" in frame and bool((frame["control_n"] != n)[frame["control_n"].notna()].any())
        return frame, "out of another number than n" if other and (column > 1).any() else ""
    try:
        if in_percent(column):
            if not (shares or percent) and _whole(column, n) and not bool((n == HUNDRED).all()):
                return frame, "so many of n, or percent?"
            column = column / HUNDRED
    except ValueError as error:
        return frame, str(error)
    return frame.assign(control=(column * n).round() if counted else column), ""
