"""What a design can find, said before anything is run: how many topics, openings and permutations each claim needs.

The verdicts go by a mean over independent units: topics for reading and writing, emotions for steering. A mean of n
units whose spread is s finds an effect d with the power of Student's t. Folds that share their training widen the
interval of C1 and C8 (Nadeau and Bengio 2003), not what is measured, which is counted here. What must be assumed is the
spread. It comes from a pilot run (`tables/claims.csv` holds the error and the units of each verdict), else from the
planted worlds of `benchmarks.verdicts`, and is said in every row. No model is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom, multivariate_normal, nct, norm
from scipy.stats import t as student

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.files.artifacts import atomic_write
from lens_emotion.files.user import shown
from lens_emotion.models.catalog import find_spec
from lens_emotion.pictures import Dots
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.look import check_is_run, read_manifest, read_table
from lens_emotion.stats.decide import MANY, POWER
from lens_emotion.stats.tests import wilson_interval
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.lexicon import lexicon
from lens_emotion.stimuli.library import PASSAGES, load_stimuli
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.claims.smallest import SMALLEST, smallest_of
from lens_emotion.study.verdict import ALL_MODELS, STATEMENTS

ALPHA, LEVEL = 0.05, 0.025  # of a p-value; one-sided, of an interval's end
SUSPECT = 1 / 3  # of the spread in planted worlds, below which a pilot's is doubted
LOST = 0.01  # of the power, which may be lost to drawing permutations instead of counting them all
TOPICS, EMOTIONS, SCENARIOS = "topics", "emotions", "scenarios"
WORLDS_SAY = "planted worlds (benchmarks.verdicts)"


@dataclass(frozen=True)
class Spread:
    """SD of one unit of a claim's mean, where a unit holds so many texts.

    Attributes:
        value: in the unit of the smallest effect. each: texts behind a unit. shared: share of it (SD) that more texts a
            unit do not take away.
    """

    value: float
    each: float
    shared: float = 0.0

    def at(self, each: float) -> float:
        """Of units that hold another number of texts: what is the texts' own falls with their root."""
        fixed = (self.shared * self.value) ** 2
        return math.sqrt(fixed + (self.value**2 - fixed) * self.each / each)


# measured on planted worlds at the smallest effects of interest, 20 emotions and 12 topics, or 2 openings an emotion
ASSUMED: dict[str, Spread] = {
    "C1": Spread(0.11, 20),
    "C4": Spread(0.15, 20),
    "C8": Spread(0.16, 20),
    "X1": Spread(0.14, 20),
    "C5": Spread(1.0, 2, shared=0.3),
}
UNIT = dict.fromkeys(("C1", "C4", "C8", "X1"), TOPICS) | {"C5": EMOTIONS}
EACH = {TOPICS: "texts a topic", EMOTIONS: "openings an emotion", SCENARIOS: "openings"}
BOTH = {"C5"}  # shown against two controls, which share the emotion's own texts
WIDENED = {"C1", "C8"}  # by what folds share: each topic is tested on what all others teach
PERMUTED = {"C2", "C4", "X1"}  # whose verdict asks a p-value of permutations beside an interval
NO_SIZE = {
    "C2": "no size to find: an interval of a depth. Planted worlds with 12 topics of 20 texts: found in 100%",
    "C3": "no size to find: the signs of two slopes. Planted worlds with 12 topics of 20 texts: found in 100%",
    "C6": "no size to find: an order of regimes, and families of models. Planted worlds with 40 openings: the order "
    "found in 98%; families, with three models or more each, in 96%, with two in 34%",
}


@dataclass(frozen=True)
class Sizes:
    """How large a design is: topics, texts of each topic, emotions, openings of each emotion, doses, permutations."""

    topics: int
    texts: float
    emotions: int
    openings: float
    doses: int
    draws: int

    def of(self, unit: str) -> tuple[int, float]:
        """Units of a kind, and texts behind each."""
        if unit == TOPICS:
            return self.topics, self.texts
        n = self.emotions if unit == EMOTIONS else round(self.emotions * self.openings)
        return n, self.openings if unit == EMOTIONS else 1.0


@dataclass(frozen=True, eq=False, repr=False)
class DesignPower(Result):
    """What a design finds, claim by claim.

    Attributes:
        table: claim, smallest (effect of interest), in (its unit), unit, here (units of the design), each (texts behind
            a unit), spread (SD of a unit), power (to show the smallest effect), finds (the effect found with `power`),
            needed (units for it), needed_each (texts behind a unit for it, with the units there are), draws
            (permutations for it), assumed (where the spread comes from). NaN where a claim has no size, or nothing
            would be enough.
        sizes: of the design. power: that was asked for.
    """

    _picture = Dots(("claim",), "power", reference=POWER)

    table: pd.DataFrame
    sizes: Sizes
    power: float

    def save(self, path: str | Path) -> Path:
        """Write design and table as JSON; what is no number is null.

        Raises:
            ArtifactError: it cannot be written.
        """
        rows = [{k: None if v != v else v for k, v in row.items()} for row in self.table.to_dict("records")]
        data = {"power": self.power, "sizes": asdict(self.sizes), "claims": rows}
        return atomic_write(Path(path), json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def summary(self) -> str:
        """Which claims the design would find at their smallest effect, and which not."""
        asked = self.table[self.table["power"].notna()]
        able = asked["power"] >= self.power
        found = ", ".join(asked["claim"][able]) or "no claim"
        short = ", ".join(f"{r['claim']} ({r['power']:.2f})" for r in asked[~able].to_dict("records")) or "no other"
        s = self.sizes
        return (
            f"{s.topics} topics of {s.texts:g} texts, {s.emotions} emotions of {s.openings:g} openings: the smallest "
            f"effect of interest is found with power {self.power:g} for {found}; with less for {short}"
        )


def power_of(
    design: StudyConfig | str | Path | None = None, pilot: str | Path | None = None, power: float = POWER
) -> DesignPower:
    """Say beforehand what a design finds, and what each claim needs; no model is loaded.

    Args:
        design: settings of a study; a run folder, whose settings are taken and which is its own pilot; None for the
            defaults. Of models that read different texts, those of fewest topics count.
        pilot: a run folder whose spread is taken in place of that of planted worlds.
        power: asked for, between 0.5 and 0.99.

    Raises:
        AnalysisError: a power, or a design, that is none.
        LensEmotionError: no run folder, texts that cannot be read.

    Source: power of Student's t (Cohen 1988, ch. 2); permutations, Davison and Hinkley (1997), section 4.2.5.

    Example:
        >>> le.power_of(le.StudyConfig(models=("tiny-llama",))).sizes.emotions
        20
    """
    if not isinstance(power, float | int) or isinstance(power, bool) or not 0.5 <= power <= 0.99:
        raise AnalysisError(f"power is {shown(power)}; give a number from 0.5 to 0.99, such as 0.8")
    folder = getattr(design, "folder", design)  # of a StudyRun
    if isinstance(folder, str | Path):
        pilot, design = folder if pilot is None else pilot, read_manifest(check_is_run(folder)).settings
    if design is not None and not isinstance(design, StudyConfig):
        raise AnalysisError(f"design: expected a StudyConfig or a run folder, got {shown(design)}")
    config = StudyConfig() if design is None else design
    sizes, known = sizes_of(config), {} if pilot is None else spreads_in(pilot)
    if sizes.emotions < 2:
        raise AnalysisError(f"a design of {sizes.emotions} emotion(s) tells none from another; give two or more")
    smallest = smallest_of(config.smallest)
    rows = [_row(code, smallest.get(code), sizes, known, power) for code in STATEMENTS]
    return DesignPower(pd.DataFrame(rows), sizes, float(power))


def sizes_of(config: StudyConfig) -> Sizes:
    """How large a study is, by its texts and openings alone; of several sets, that of fewest topics."""
    sets = [_texts(name, config.for_model(name)) for name in config.models]
    texts, own = min(sets, key=lambda pair: len(pair[0].topics))
    openings = [s for s in scenarios(own.scenarios or texts.name) if s.emotion in texts.emotions]
    emotional = texts.only(emotions=texts.emotions) if len(texts.emotions) else texts
    n = len({s.emotion for s in openings})
    return Sizes(
        topics=len(emotional.topics),
        texts=len(emotional) / max(len(emotional.topics), 1),
        emotions=n,
        openings=len(openings) / max(n, 1),
        doses=len(own.doses),
        draws=config.n_permutations,
    )


def _texts(name: str, config: StudyConfig) -> tuple[StimulusSet, StudyConfig]:
    """The texts that a model reads, as `run.inputs.texts_for` has them, without the model."""
    spec = find_spec(name) or find_spec(Path(name).name)
    found = load_stimuli(config.stimuli or (spec.stimuli if spec else PASSAGES))
    return (found.only(emotions=(*config.emotions, NEUTRAL)) if config.emotions else found), config


def spreads_in(run: str | Path) -> dict[str, Spread]:
    """Claim -> spread of its units in a run, the median over its models; empty for runs of versions that stored none.

    Raises:
        ArtifactError: no run folder, or a table of claims that cannot be read.
    """
    root = check_is_run(run)
    table, sizes = read_table(root / "tables" / "claims.csv"), sizes_of(read_manifest(root).settings)
    if not {"code", "scope", "units", "error"} <= set(table.columns):
        return {}
    own = table[(table["scope"] != ALL_MODELS) | (table["code"] == "C8")]
    numbers = own[["units", "error"]].apply(pd.to_numeric, errors="coerce")
    spread = (numbers["error"] * np.sqrt(numbers["units"])).where(lambda s: (s > 0) & (s < MANY))
    found = spread.groupby(own["code"]).median().dropna()
    return {
        str(code): Spread(float(s), sizes.of(UNIT[str(code)])[1], ASSUMED[str(code)].shared)
        for code, s in found.items()
        if code in UNIT
    }


def _row(
    code: str, smallest: float | None, sizes: Sizes, known: Mapping[str, Spread], power: float
) -> dict[str, object]:
    """One claim."""
    draws = draws_needed(power) if code in PERMUTED else math.nan
    row: dict[str, object] = {"claim": code, "smallest": smallest if smallest is not None else math.nan}
    row["in"] = SMALLEST[code].unit if code in SMALLEST else ""
    if code == "C7" and smallest is not None:
        return row | _leaks(smallest, sizes, power) | {"draws": math.nan}
    if smallest is None or code not in UNIT:
        unit = SCENARIOS if code == "C6" else TOPICS
        here, each = sizes.of(unit)
        none = dict.fromkeys(("spread", "power", "finds", "needed", "needed_each"), math.nan)
        return row | {"unit": unit, "here": here, "each": each} | none | {"draws": draws, "assumed": NO_SIZE[code]}
    unit, spread, how = UNIT[code], known.get(code, ASSUMED[code]), {"both": code in BOTH, "widened": code in WIDENED}
    here, each = sizes.of(unit)
    s = spread.at(each)
    basis = "this pilot's" if code in known else f"{WORLDS_SAY}:"
    more = f"{spread.shared:.0%} of it stays with more {EACH[unit]}" if spread.shared else "texts independent"
    if code in known and s < SUSPECT * ASSUMED[code].at(each):
        more += "; so little that the pilot may be at its floor or ceiling, where nothing varies"
    return row | {
        "unit": unit,
        "here": here,
        "each": each,
        "spread": s,
        "power": mean_power(smallest, s, here, **how),
        "finds": _solved(lambda d: mean_power(d, s, here, **how), power, s * 20),
        "needed": least(lambda n: mean_power(smallest, s, n, **how), power, 3),
        "needed_each": least(lambda k: mean_power(smallest, spread.at(k), here, **how), power, 1),
        "draws": draws,
        "assumed": f"SD of a unit: {basis} {spread.value:.2g} at {spread.each:g} {EACH[unit]}; {more}",
    }


def mean_power(effect: float, spread: float, n: int, both: bool = False, widened: bool = False) -> float:
    """Power to show a mean of n units above 0, its 95% interval being Student's.

    Args:
        both: over two controls at once, whose differences share half of their variance: both intervals must lie above
            0 (a bivariate normal at Student's bounds).
        widened: the spread holds what leave-one-topic-out folds share, by which the interval is wider than the mean
            varies.
    """
    if n < 3:
        return 0.0
    if spread <= 0:
        return float(effect > 0)
    wider = math.sqrt(1 + n / (n - 1)) if widened else 1.0
    bound, shift = wider * float(student.ppf(1 - LEVEL, n - 1)), wider * effect * math.sqrt(n) / spread
    one = float(nct.sf(bound, n - 1, shift)) if shift < 30 else 1.0
    if not both or one >= 1:
        return one
    z = norm.ppf(max(one, 1e-12))
    return float(multivariate_normal.cdf([z, z], cov=[[1.0, 0.5], [0.5, 1.0]]))


def least(power_at: Callable[[int], float], power: float, first: int) -> float:
    """The smallest whole number from `first` on that has the power (which grows with it); NaN where none has."""
    high = first
    while power_at(high) < power:
        high *= 2
        if high > MANY // 10:
            return math.nan
    low = high // 2 if high > first else first
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle + 1, high)
    return float(low)


def _solved(power_at: Callable[[float], float], power: float, most: float) -> float:
    """The effect that is found with a power, by halving; NaN where not even `most` is."""
    low, high = 0.0, most
    if power_at(high) < power:
        return math.nan
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def _leaks(smallest: float, sizes: Sizes, power: float) -> dict[str, object]:
    """C7: enough texts with a fitting foreign word at a dose, beside a control that has none (exact binomial)."""
    recall = min((wilson_interval(r.found, r.n)[0] for r in lexicon().recall.values()), default=1.0)
    enough = math.ceil(math.log2(sizes.doses / LEVEL))  # pairs that all point one way, Holm's level over doses
    n, each = sizes.of(SCENARIOS)

    def at(share: float, n: int) -> float:
        return float(binom.sf(enough - 1, n, min(1.0, share * recall)))

    return {
        "unit": SCENARIOS,
        "here": n,
        "each": each,
        "spread": math.nan,
        "power": at(smallest, n),
        "finds": _solved(lambda share: at(share, n), power, 1.0),
        "needed": least(lambda m: at(smallest, m), power, enough),
        "needed_each": math.nan,
        "assumed": f"{enough} texts with a fitting word at one of {sizes.doses} doses, none under random directions; "
        f"the words find {recall:.0%} of the texts that fit",
    }


@cache
def draws_needed(power: float) -> float:
    """Permutations of a test at level .05 that lose less than a hundredth of the power to being drawn."""
    z = np.linspace(-6, 6, 2001) + norm.isf(ALPHA) + norm.ppf(power)
    weight = norm.pdf(z - norm.isf(ALPHA) - norm.ppf(power))
    weight /= weight.sum()

    def drawn(n: int) -> float:
        return float(weight @ binom.cdf(math.floor(ALPHA * (n + 1) + 1e-9) - 1, n, norm.sf(z)))

    return next((float(n) for n in range(19, 4000, 20) if drawn(n) >= power - LOST), math.nan)
