"""What the figures of steering read of their results (see `contracts`)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pandas import DataFrame

from lens_emotion.plots.contracts import HasTable


@runtime_checkable
class ThresholdsLike(Protocol):
    """Where regimes begin."""

    @property
    def explosive_ratio(self) -> float: ...


@runtime_checkable
class RegimeMapLike(HasTable, Protocol):
    """One row per layer, dose and condition, with the texts behind them."""

    @property
    def texts(self) -> DataFrame: ...

    @property
    def onsets(self) -> DataFrame: ...

    @property
    def model(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def millions(self) -> float: ...

    @property
    def thresholds(self) -> ThresholdsLike: ...

    @property
    def judge(self) -> str: ...


@runtime_checkable
class SideEffectsLike(HasTable, Protocol):
    """Steered x judged emotion: change in score, with the null of its means."""

    @property
    def matrix(self) -> DataFrame: ...

    @property
    def dose(self) -> float: ...

    @property
    def target(self) -> float: ...

    @property
    def spill(self) -> float: ...

    @property
    def null_spill(self) -> float: ...

    @property
    def p_target(self) -> float: ...

    @property
    def p_spill(self) -> float: ...


@runtime_checkable
class LeakageLike(HasTable, Protocol):
    """Foreign letters by dose and condition, their scripts, and foreign words if there is a word list."""

    @property
    def scripts(self) -> DataFrame: ...

    @property
    def words(self) -> DataFrame | None: ...

    @property
    def home(self) -> str: ...

    @property
    def onset(self) -> float | None: ...
