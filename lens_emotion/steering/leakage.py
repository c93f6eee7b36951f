"""Cross-lingual leakage (arXiv 2604.04064, claim C7): does steering bring out another script, and the emotion in it?

Read off the stored texts of a `DoseResponse`; nothing is generated. A random direction of the same length pushes a
model off its track too, so foreign letters under the emotion's vector count only where they exceed random's.

That nothing came out is an answer only as far as the design reaches: n texts without a foreign letter leave a share of
texts open, and words are found in some of the texts that hold them (`stimuli.lexicon.Recall`). What is excluded is
the share of texts with foreign words that fit, where its upper bound lies below a smallest share of interest at
every dose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import beta, binom

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.files.user import numbers_fit
from lens_emotion.pictures import Line
from lens_emotion.stats.decide import EXCLUDED, OPEN, POWER, SHOWN
from lens_emotion.stats.tests import (
    ALPHA,
    bootstrap_over_groups,
    max_corrected_p,
    p_text,
    percentile_band,
    permutation_p,
    wilson_interval,
)
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.measures import letter_shares, script_shares
from lens_emotion.steering.outcomes import holm, mcnemar_p, rate
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE, INERT, SURGICAL
from lens_emotion.stimuli.lexicon import Lexicon

NOTHING = 0.01  # a mean share of foreign letters below this, at every dose, is called nothing
LEVEL = 0.025  # one-sided, so that what is decided goes with 95% intervals
N_FLIPS = 1999


@dataclass(frozen=True, eq=False, repr=False)
class Leakage(Result):
    """Foreign letters, and foreign words of the emotion, against dose.

    Attributes:
        table: one row per dose and condition ("unsteered" at dose 0, "emotion", "random", "other"): n scenarios,
            foreign (mean share of letters outside the home script) with 95% bootstrap interval over scenarios, texts
            (share of texts with any foreign letter) with Wilson interval; for "emotion" also p (paired sign-flip
            permutation against random, one-sided) and p_corrected (over doses).
        scripts: mean share of letters per dose, condition and script.
        words: semantic match, None without a bilingual word list. One row per dose: target (share of texts with a word
            of the target emotion in the other script) with Wilson interval, others (share of texts with a word of any
            other emotion), random (target words under random directions), p_random (exact McNemar, corrected over
            doses by Holm), p_others (paired permutation against words of any other emotion, Holm).
        home: script of the prompts.
        onset: smallest dose at which foreign letters exceed random's (p_corrected <= 0.05), None if none does.
        layer: steered layer, or "all".
        spanned: whether the doses reach from text that is whole to text that is broken, by the regimes.
        recall: lower end of the 95% interval of the share of fitting texts that the words find, None if not measured.
    """

    _picture = Line("dose", "foreign", "low", "high", band="95% intervals", group="condition")

    table: pd.DataFrame
    scripts: pd.DataFrame
    words: pd.DataFrame | None
    home: str
    onset: float | None
    layer: int | str
    spanned: bool
    recall: float | None

    @property
    def most(self) -> float:
        """Largest share of texts with fitting foreign words that is not excluded (95%, exact), at any dose: no more
        than hold a foreign letter, and no more than hold a word of the emotion, for those that the words miss."""

        def end(k: int, n: int, found: float) -> float:
            return min(1.0, float(beta.ppf(1 - LEVEL, k + 1, n - k)) / found) if k < n else 1.0

        return max(min(end(*bound) for bound in bounds) for bounds in self._held())

    @property
    def detectable(self) -> tuple[float, float]:
        """Smallest share of texts with foreign letters, and with fitting words, found with power .8 beside a control
        without any, corrected over doses; NaN where no share is, and for words whose recall is not known.

        k texts are enough for the sign flips, and for McNemar, where 2^-k is at most the level.
        """
        rows = self.table[self.table.condition == "emotion"]
        n, least = int(rows.n.min()), math.ceil(math.log2(len(rows) / LEVEL))
        letters = float(beta.ppf(POWER, least, n - least + 1)) if least <= n else math.nan
        words = letters / (self.recall or math.nan)
        return letters, words if words <= 1 else math.nan

    @property
    def p_shown(self) -> float:
        """One-sided p-value of the claim: the largest of letters beyond random's, and of words of the emotion beyond
        random directions and beyond other emotions', each corrected over doses."""
        if self.words is None:
            return 1.0
        beyond = np.where(self.words.target > self.words.random, self.words.p_random / 2, 1.0)
        fits = float(np.maximum(beyond, self.words.p_others).min())
        return max(float(self.table.p_corrected.min()), fits)

    def p_excluded(self, smallest: float) -> float:
        """One-sided p-value of "fewer than `smallest` of the texts hold fitting foreign words, at every dose" (exact
        binomial): 1 where the doses do not reach from whole to broken text."""
        if not self.spanned:
            return 1.0
        p = [[float(binom.cdf(k, n, smallest * found)) for k, n, found in bounds] for bounds in self._held()]
        return max(map(min, p))

    def _held(self) -> list[list[tuple[int, int, float]]]:
        """At each dose, texts of n that hold a foreign letter, and those that hold a word of the emotion, where its
        recall is known; and the share of the fitting texts that must be among them."""
        rows = self.table[self.table.condition == "emotion"].sort_values("dose")
        target = np.ones(len(rows)) if self.words is None else self.words.sort_values("dose")["target"]
        found = []
        for letters, word, n in zip(rows.texts, target, rows.n, strict=True):
            bounds = [(round(letters * n), int(n), 1.0)]
            found.append(bounds + ([(round(word * n), int(n), self.recall)] if self.recall else []))
        return found

    def outcome(self, smallest: float, level: float = LEVEL) -> str:
        """ "shown": letters beyond random's, and words of the emotion beyond both controls; "excluded": the doses reach
        from whole to broken text, and fitting words in `smallest` of the texts are excluded; else "open"."""
        if self.p_shown <= level:
            return SHOWN
        return EXCLUDED if self.p_excluded(smallest) <= LEVEL else OPEN

    def design(self) -> str:
        """What this experiment shows at most, and what it would have found, in words."""
        letters, words = self.detectable
        found = "" if math.isnan(letters) else f"; with power .8 it finds foreign letters in {letters:.0%} of them"
        found += "" if math.isnan(words) else f", fitting words if they are in {words:.0%}"
        unknown = "" if self.words is None or self.recall else ", the share of texts that the words miss is not known"
        short = "" if self.spanned else "; the doses do not reach from whole to broken text"
        most = f"fitting words in up to {self.most:.1%} of the texts are not excluded"
        return f"{self.protocol}: {most}{found}{unknown}{short}"

    @property
    def protocol(self) -> str:
        return "one vector at all layers" if self.layer == "all" else f"layer {self.layer}"

    @property
    def peak(self) -> pd.Series:
        """The row of the emotion condition with the largest share of foreign letters over random's."""
        wide = self.table.pivot(index="dose", columns="condition", values="foreign")
        dose = (wide["emotion"] - wide["random"]).idxmax()
        return self.table[(self.table.dose == dose) & (self.table.condition == "emotion")].iloc[0]

    def summary(self) -> str:
        steered = self.table[self.table.condition.isin(["emotion", "random"])]
        if steered.foreign.max() < NOTHING:
            return (
                f"nothing leaks: at every dose under 1% of the letters are not {self.home}, for random directions too"
            )
        row = self.peak
        random = self.table[(self.table.dose == row.dose) & (self.table.condition == "random")].iloc[0]
        share = (
            f"{row.foreign:.1%} of the letters [{row.low:.1%}, {row.high:.1%}] are not {self.home} at dose "
            f"{row.dose:g}, {random.foreign:.1%} for random directions ({p_text(float(row.p_corrected))}, corrected "
            "over doses)"
        )
        if self.onset is None:
            share = f"no leakage beyond the control: {share}; the drift is no larger than random's"
        else:
            share = f"leaks from dose {self.onset:g}: at its largest {share}"
        return share + self._words_text()

    def _words_text(self) -> str:
        if self.words is None:
            return ""
        row = self.words.iloc[int((self.words.target - self.words.others).argmax())]
        own = f"{row.target:.0%} of the texts hold a foreign word of the target emotion at dose {row.dose:g}"
        beside = f"{row.others:.0%} of any other emotion, {row.random:.0%} under random directions"
        if max(row.p_random, row.p_others) > ALPHA:
            return f"; aligned with the emotion: not distinguishable from noise ({own}; {beside})"
        return f"; aligned with the emotion: {own}, {beside} ({p_text(max(row.p_random, row.p_others))})"


@numbers_fit(AnalysisError)
def leakage(
    result: DoseResponse, bilingual: Mapping[str, Sequence[str]] | Lexicon | None = None, seed: int = 0
) -> Leakage:
    """Share of letters outside the prompts' script against dose, beside random directions.

    Args:
        result: of `dose_response`.
        bilingual: a `lexicon()`, of which the words that are not of the prompts' script count, or emotion -> words in
            the other language, for example `world_words("world-en-zh", "zh")`; words that two emotions share do not
            count for either.
        seed: of whatever is drawn at random.

    Raises:
        AnalysisError: prompts without letters; emotions without words in `bilingual`.

    Example:
        >>> result = le.leakage(steered)
        >>> list(result.table)[:3]
        ['dose', 'condition', 'n']
    """
    of_prompts = letter_shares(" ".join(result.unsteered["prompt"]))
    if not of_prompts:
        raise AnalysisError("the prompts hold no letters, so there is no home script; give prompts with words")
    home = max(of_prompts, key=of_prompts.__getitem__)
    frame = _frame(result)
    shares = script_shares(frame["text"].tolist())
    for name, values in shares.items():
        frame[f"letters_{name}"] = values
    none_of_home = 0.0 * next(iter(shares.values()), np.nan)  # nan where a text has no letters
    frame["foreign"] = 1.0 - shares.get(home, none_of_home)
    # a text without letters leaks nothing: left nan it would drop its scenario from one side of the pair
    frame = frame.fillna(dict.fromkeys(["foreign", *(f"letters_{s}" for s in shares)], 0.0))
    table = _table(frame, seed)
    found = table[(table.condition == "emotion") & (table.p_corrected <= ALPHA)]
    scripts = frame.groupby(["dose", "condition"])[[f"letters_{s}" for s in shares]].mean().reset_index()
    scripts = scripts.melt(["dose", "condition"], var_name="script", value_name="share")
    scripts["script"] = scripts["script"].str.removeprefix("letters_")
    words, recall = None, None
    if bilingual is not None:
        known = bilingual.outside(home) if isinstance(bilingual, Lexicon) else Lexicon(bilingual)
        recall = _recall(known, scripts, home)
        words = _words(frame, known, seed)
    regimes = set(result.table.loc[result.table.condition == "emotion", "regime"]) if len(result.table) else set()
    return Leakage(
        table=table,
        scripts=scripts,
        words=words,
        home=home,
        onset=float(found.dose.min()) if len(found) else None,
        layer=result.layer,
        spanned=bool(regimes & {INERT, SURGICAL}) and bool(regimes & {COLLAPSE, EXPLOSIVE}),
        recall=recall,
    )


def _recall(known: Lexicon, scripts: pd.DataFrame, home: str) -> float | None:
    """Lower end of the recall of words in the script that comes out most; where none does, of the words measured."""
    foreign = scripts[(scripts.condition == "emotion") & (scripts.script != home) & (scripts.share > 0)]
    leaks = str(foreign.groupby("script")["share"].sum().idxmax()) if len(foreign) else next(iter(known.recall), "")
    found = known.recall.get(leaks)
    return wilson_interval(found.found, found.n)[0] if found else None


def _frame(result: DoseResponse) -> pd.DataFrame:
    """All texts below one another: condition, dose, scenario, emotion, text."""
    columns = ["condition", "dose", "scenario", "emotion", "text"]
    before = result.unsteered.assign(condition="unsteered", dose=0.0, scenario=range(len(result.unsteered)))
    emotions = result.texts.drop_duplicates("scenario").set_index("scenario")["emotion"]
    before["emotion"] = before["scenario"].map(emotions)
    frames = [before[columns], result.texts[columns]]
    return pd.concat(frames + ([result.others[columns]] if len(result.others) else [])).reset_index(drop=True)


def _table(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    for (dose, condition), group in frame.groupby(["dose", "condition"]):
        values = group["foreign"].to_numpy(dtype=float)
        low, high = values.mean(), values.mean()
        if len(group) > 1:
            low, high = percentile_band(bootstrap_over_groups(values, group["scenario"].to_numpy(), seed=seed))
        share = rate("texts", pd.Series(values > 0))
        texts = {"texts": share["texts_rate"], "texts_low": share["texts_low"], "texts_high": share["texts_high"]}
        place = {"dose": dose, "condition": condition, "n": len(group)}
        rows.append(place | {"foreign": values.mean(), "low": float(low), "high": float(high)} | texts)
    table = pd.DataFrame(rows)
    table["p"] = table["p_corrected"] = np.nan
    wide = {c: g.pivot(index="scenario", columns="dose", values="foreign") for c, g in frame.groupby("condition")}
    difference = wide["emotion"] - wide["random"]
    null = _sign_flips(difference.to_numpy(), seed)
    observed = difference.mean().to_numpy()
    emotion = table.condition == "emotion"
    table.loc[emotion, "p"] = permutation_p(observed, null)
    table.loc[emotion, "p_corrected"] = max_corrected_p(observed, null, standardise=True)
    return table


def _sign_flips(difference: Float[np.ndarray, "n k"], seed: int) -> Float[np.ndarray, "m k"]:
    """Means under swaps of the pair, one swap per scenario for all doses, so that their dependence is kept."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(N_FLIPS, len(difference)))
    return signs @ difference / len(difference)


def _words(frame: pd.DataFrame, known: Lexicon, seed: int) -> pd.DataFrame:
    wanted = list(dict.fromkeys(frame["emotion"]))
    if missing := [e for e in wanted if not known.words.get(e)]:
        raise AnalysisError(f"no foreign words for {', '.join(missing)}; give words for every emotion steered towards")
    named = [known.named_in(text) for text in frame["text"]]
    own = np.array([emotion in found for emotion, found in zip(frame["emotion"], named, strict=True)])
    others = np.array([len(found) for found in named]) > own
    scored = frame.assign(target=own, others=others)
    rows = [_word_row(float(str(dose)), group, seed) for dose, group in scored.groupby("dose") if dose != 0]
    table = pd.DataFrame(rows)
    for p in ("p_random", "p_others"):
        table[p] = holm(table[p].to_numpy())
    return table


def _word_row(dose: float, group: pd.DataFrame, seed: int) -> dict[str, float]:
    mine, random = (group[group.condition == c].sort_values("scenario") for c in ("emotion", "random"))
    target = rate("target", mine.target)
    shares = {"target": target["target_rate"], "low": target["target_low"], "high": target["target_high"]}
    difference = mine.target.to_numpy(dtype=float) - mine.others.to_numpy(dtype=float)
    null = _sign_flips(difference[:, None], seed)
    shares |= {"others": float(mine.others.mean()), "random": float(random.target.mean())}
    p_random = mcnemar_p(mine.target.to_numpy(), random.target.to_numpy())
    p_others = float(permutation_p(np.array(difference.mean()), null[:, 0]))
    return {"dose": dose, "n": len(mine), **shares, "p_random": p_random, "p_others": p_others}
