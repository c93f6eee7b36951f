"""Cross-lingual leakage (arXiv 2604.04064, claim C7): does steering bring out another script, and the emotion in it?

Read off the stored texts of a `DoseResponse`; nothing is generated. A random direction of the same length pushes a
model off its track too, so foreign letters under the emotion's vector count only where they exceed random's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.files.user import numbers_fit
from lens_emotion.stats.tests import (
    ALPHA,
    bootstrap_over_groups,
    max_corrected_p,
    p_text,
    percentile_band,
    permutation_p,
)
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.judges import any_word
from lens_emotion.steering.measures import letter_shares, script_shares
from lens_emotion.steering.outcomes import holm, mcnemar_p, rate

NOTHING = 0.01  # a mean share of foreign letters below this, at every dose, is called nothing
N_FLIPS = 1999


@dataclass(frozen=True, eq=False, repr=False)
class Leakage(Result):
    """Foreign letters, and foreign words of the emotion, against dose.

    Attributes:
        table: one row per dose and condition ("unsteered" at dose 0, "emotion", "random", "other"): n scenarios,
            foreign (mean share of letters outside the home script) with 95% bootstrap interval over scenarios, texts
            (share of texts with any foreign letter); for "emotion" also p (paired sign-flip permutation against random,
            one-sided) and p_corrected (over doses).
        scripts: mean share of letters per dose, condition and script.
        words: semantic match, None without a bilingual word list. One row per dose: target (share of texts with a word
            of the target emotion in the other script) with Wilson interval, others (the same for the words of the other
            emotions, mean over them), random (target words under random directions), p_random (exact McNemar,
            corrected over doses by Holm), p_others (paired permutation against the other emotions' words, Holm).
        home: script of the prompts.
        onset: smallest dose at which foreign letters exceed random's (p_corrected <= 0.05), None if none does.
    """

    table: pd.DataFrame
    scripts: pd.DataFrame
    words: pd.DataFrame | None
    home: str
    onset: float | None

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
        beside = f"{row.others:.0%} of another emotion, {row.random:.0%} under random directions"
        if max(row.p_random, row.p_others) > ALPHA:
            return f"; aligned with the emotion: not distinguishable from noise ({own}; {beside})"
        return f"; aligned with the emotion: {own}, {beside} ({p_text(max(row.p_random, row.p_others))})"


@numbers_fit(AnalysisError)
def leakage(result: DoseResponse, bilingual: Mapping[str, Sequence[str]] | None = None, seed: int = 0) -> Leakage:
    """Share of letters outside the prompts' script against dose, beside random directions.

    Args:
        result: of `dose_response`.
        bilingual: emotion -> words in the other script, for example `world_words("world-en-zh", "zh")`; words that two
            emotions share do not count against either.

    Raises:
        AnalysisError: prompts without letters; emotions without words in `bilingual`.
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
    return Leakage(
        table=table,
        scripts=scripts,
        words=None if bilingual is None else _words(frame, bilingual, seed),
        home=home,
        onset=float(found.dose.min()) if len(found) else None,
    )


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
        any_foreign = float((values > 0).mean())
        place = {"dose": dose, "condition": condition, "n": len(group)}
        rows.append(place | {"foreign": values.mean(), "low": float(low), "high": float(high), "texts": any_foreign})
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


def _words(frame: pd.DataFrame, bilingual: Mapping[str, Sequence[str]], seed: int) -> pd.DataFrame:
    wanted = list(dict.fromkeys(frame["emotion"]))
    if missing := [e for e in wanted if not bilingual.get(e)]:
        raise AnalysisError(f"no foreign words for {', '.join(missing)}; give words for every emotion steered towards")
    names = list(bilingual)
    of_one = Counter(w for words in bilingual.values() for w in set(words))
    patterns = [any_word([w for w in bilingual[e] if of_one[w] == 1]) for e in names]
    matrix = np.array([[bool(p.search(t)) for p in patterns] for t in frame["text"]], dtype=float)
    column = np.array([names.index(e) for e in frame["emotion"]])
    own = matrix[np.arange(len(frame)), column]
    scored = frame.assign(target=own.astype(bool), others=(matrix.sum(1) - own) / max(len(names) - 1, 1))
    rows = [_word_row(float(str(dose)), group, seed) for dose, group in scored.groupby("dose") if dose != 0]
    table = pd.DataFrame(rows)
    for p in ("p_random", "p_others"):
        table[p] = holm(table[p].to_numpy())
    return table


def _word_row(dose: float, group: pd.DataFrame, seed: int) -> dict[str, float]:
    mine, random = (group[group.condition == c].sort_values("scenario") for c in ("emotion", "random"))
    target = rate("target", mine.target)
    shares = {"target": target["target_rate"], "low": target["target_low"], "high": target["target_high"]}
    difference = mine.target.to_numpy(dtype=float) - mine.others.to_numpy()
    null = _sign_flips(difference[:, None], seed)
    shares |= {"others": float(mine.others.mean()), "random": float(random.target.mean())}
    p_random = mcnemar_p(mine.target.to_numpy(), random.target.to_numpy())
    p_others = float(permutation_p(np.array(difference.mean()), null[:, 0]))
    return {"dose": dose, "n": len(mine), **shares, "p_random": p_random, "p_others": p_others}
