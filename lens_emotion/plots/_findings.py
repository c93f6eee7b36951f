"""What was found, in the few words that a figure bears as its title. `summary()` is the sentence with every number.

A title says no more than the test behind it: what the null explains is no finding, whatever the curve looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pandas import DataFrame, Series
from scipy.stats import false_discovery_control

from lens_emotion.analysis.anisotropy import Anisotropy
from lens_emotion.analysis.circumplex import Circumplex
from lens_emotion.analysis.compare import Comparison, ModelComparison
from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.drift import Drift
from lens_emotion.analysis.families import BaseVsInstruct, RSAMatrix
from lens_emotion.analysis.geometry import Opposites, Similarity
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.probes import Probe
from lens_emotion.analysis.reliability import Reliability
from lens_emotion.analysis.rsa import RSA, HumanRSA
from lens_emotion.analysis.separation import Separation
from lens_emotion.analysis.tokens import TokenScores
from lens_emotion.analysis.transfer import Transfer
from lens_emotion.analysis.twins import TwinsApart
from lens_emotion.analysis.words import BeyondWords
from lens_emotion.display import said
from lens_emotion.extraction.comprehension import TokenRole
from lens_emotion.plots._curves import strictest
from lens_emotion.stats.tests import ALPHA, p_text
from lens_emotion.steering.architecture import NOT_TESTABLE, ArchitectureTest
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.leakage import Leakage
from lens_emotion.steering.regime_map import RegimeMap
from lens_emotion.steering.regimes import SURGICAL
from lens_emotion.steering.side_effects import SideEffects
from lens_emotion.steering.verification import Verification
from lens_emotion.study.verdict import ALL_MODELS, VERDICTS, Claims

TIED = 0.03  # accuracies that lie no further apart have no best layer to speak of
APART = {
    "decoding": "Emotions are told apart",
    "separation": "Vectors lie further apart than under permuted labels",
    "reliability": "Other topics give the same vectors",
}


def layers(p: Series) -> str:
    """'at every layer', 'at 28 of 30 layers', 'at no layer': where p is at most 0.05."""
    k, n = int((p <= ALPHA).sum()), len(p)
    return "at every layer" if k == n else f"at {k} of {n} layers" if k else "at no layer"


def share(k: int, n: int, what: str) -> str:
    """'all 5 models', '3 of 5 models', 'none of 5 models', 'the one model'."""
    if n == 1:
        return f"the one {what.removesuffix('s')}" if k else f"not the one {what.removesuffix('s')}"
    return f"{'all' if k == n else 'none of' if not k else f'{k} of'} {n} {what}"


def capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def layer_sweep(result: LayerSweep) -> str:
    table, values = result.table, result.table["value"]
    at = f"depth {result.best_depth:.2f}"
    if result.best_depth_low is not None:
        at += f" [{result.best_depth_low:.2f}, {result.best_depth_high:.2f}]"
    if table["null_high"].isna().all():
        return f"{capital(result.metric)} is {'highest' if result.higher_is_better else 'lowest'} at {at}"
    head = (
        f"{APART.get(result.metric, f'{capital(result.metric)} is beyond its null')} {layers(table[strictest(table)])}"
    )
    if head.endswith("at no layer"):
        return f"{head} more than chance explains"
    if result.metric == "decoding" and len(values) > 1 and values.max() - values.min() <= TIED:
        return f"{head}, none better than another ({values.min():.2f} to {values.max():.2f})"
    return f"{head}, best at {at}"


def separation(result: Separation) -> str:
    row = result.table.iloc[result.best_layer]
    if result.tied:
        return "Copies among the texts leave nothing to test"
    if not result.distinguishable():
        return f"Not distinguishable from noise: accuracy {row['accuracy']:.2f}, chance {row['chance']:.2f}"
    return f"Emotions are told apart on unseen topics: accuracy {row['accuracy']:.2f}, chance {row['chance']:.2f}"


def decoding(result: Decoding) -> str:
    chance = float(result.table["chance"].iloc[0])
    where = layers(result.table[strictest(result.table)])
    return f"Held-out accuracy reaches {result.best_accuracy:.2f} (chance {chance:.2f}), beyond permuted labels {where}"


def beyond_words(result: BeyondWords) -> str:
    e = result.chosen
    gain = f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
    if result.full:
        return f"The words are at their ceiling ({result.words:.2f}): no state could tell more ({gain})"
    if result.p > ALPHA or e.low <= 0:
        return f"The states are not shown to tell more than the words: {gain} of accuracy"
    return f"The states tell more than the words: {gain} of accuracy beyond {result.words:.2f}"


def twins_apart(result: TwinsApart) -> str:
    row = result.table.iloc[result.best_layer]
    told = f"Events are told from their twins without affect {layers(result.table['p_corrected'])}"
    return f"{told} (up to {row['accuracy']:.2f}; words alone {result.words:.2f})"


def confusion(result: Decoding) -> str:
    matrix = result.confusion.copy()
    right = np.trace(matrix.reindex(columns=matrix.index, fill_value=0).to_numpy()) / max(1, matrix.to_numpy().sum())
    for name in matrix.index.intersection(matrix.columns):
        matrix.loc[name, name] = -1
    counts = matrix.to_numpy()
    row, column = divmod(int(counts.argmax()), counts.shape[1])
    true, given, most = matrix.index[row], matrix.columns[column], int(counts[row, column])
    if most <= 0:
        return "Every held-out text is given its own emotion"
    return (
        f"{right:.0%} of held-out texts are given their own emotion; most often mistaken: {true} for {given} ({most})"
    )


def anisotropy(result: Anisotropy) -> str:
    row = result.table.iloc[len(result.table) // 2]
    return (
        f"States of any two texts have a cosine of {row['neutral_raw']:.2f} half way up; less their mean, "
        f"{row['neutral_centred']:.2f}"
    )


def reliability(result: Reliability, at: int) -> str:
    rows = result.table[result.table["layer"] == at]
    mean = float(result.by_layer["reliability"].iloc[at])
    if float(result.by_layer["p_corrected"].min()) > ALPHA:
        return f"No more alike on other topics than under permuted labels: reliability {mean:.2f} at layer {at}"
    held = share(int((rows["p"] <= ALPHA).sum()), len(rows), "emotions")
    return f"Other topics give vectors of reliability {mean:.2f} at layer {at}; {held} are beyond permuted labels"


def drift(result: Drift) -> str:
    table = result.by_layer
    least, changed = table["cosine_min"].min(), layers(table["p"])
    return f"Vectors of the two readings have a cosine of at least {least:.3g}; accuracy differs {changed}"


def probe(result: Probe) -> str:
    row = result.table.iloc[int(result.table["accuracy"].argmax())]
    plain = row["nearest_centroid"]
    more = "no better than" if row["accuracy"] <= plain else "against"
    return f"A fitted {result.kind} reaches {row['accuracy']:.2f}, {more} {plain:.2f} of the nearest centroid"


def transfer(result: Transfer) -> str:
    best = result.best()
    rows = result.table[result.table["centring"] == "own mean"]
    where = layers(rows["p_corrected"])
    if where.endswith("no layer"):
        return "What is learned on the one does not carry over to the other"
    return f"What is learned on the one reads the other {where}: {best['accuracy']:.2f}, chance {best['chance']:.2f}"


def transfer_within(rows: DataFrame, by: str) -> str:
    tested = rows[rows["accuracy"].notna()]
    held = share(int((tested["p_corrected"] <= ALPHA).sum()), len(tested), "transfers")
    return f"{capital(held)} between levels of {by} are beyond chance"


def opposites(result: Opposites) -> str:
    where = layers(result.by_layer["p_corrected"])
    if where.endswith("no layer"):
        return "Opposite emotions do not point apart more than relabelled ones"
    return f"Opposite emotions point apart more than relabelled ones {where}"


def base_vs_instruct(result: BaseVsInstruct) -> str:
    table = result.table
    changed = (table["low"] > 0) | (table["high"] < 0)
    rho = f"rho of the distances is {table['rho_disjoint'].median():.2f}"
    return f"Instruction tuning changes held-out accuracy {layers(1.0 - changed)}; {rho}"


def compare(result: Comparison) -> str:
    a, b = said(result.name_a), said(result.name_b)
    row = result.overall[result.overall["test"].str.startswith("sign flips")].set_index("measure").loc["decoding"]
    numbers = f"accuracy {row['a']:.2f} against {row['b']:.2f}"
    if row["high"] - row["low"] > 1:  # wider than from none right to all right
        return f"Too few {row['unit']} ({row['n']}) to compare {a} with {b}"
    better = result.better
    if better is None:
        return f"{capital(a)} against {b}: no difference that is not noise ({numbers})"
    return f"{capital(a)} tells emotions apart {'better' if better == result.name_a else 'worse'} than {b}: {numbers}"


def compare_models(result: ModelComparison, a: str, b: str) -> str:
    row = result.row("accuracy")
    if not row.high - row.low <= 1:
        return f"Too few models ({row.n}) to compare {a} with {b}: difference {row.difference:+.2f}"
    numbers = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] over {row.n} models"
    if 2 / 2**row.n > ALPHA:
        return f"{capital(a)} less {b}: {numbers}, of which no test can say more (p at least {2 / 2**row.n:.2g})"
    if not row.p <= ALPHA:
        return f"{capital(a)} against {b}: no difference that is not noise ({numbers}, {p_text(row.p)})"
    return f"{capital(a)} tells emotions apart {'better' if row.difference > 0 else 'worse'} than {b}: {numbers}"


def similarity(result: Similarity) -> str:
    rows = result.table
    if rows.empty:
        return "One emotion has nothing to be like"
    most, least = (f"{r.emotion} and {r.other}" for r in (rows.iloc[0], rows.iloc[-1]))
    cosine = rows["cosine"]
    return f"Most alike are {most} (cosine {cosine.iloc[0]:.2f}), least {least} ({cosine.iloc[-1]:.2f})"


def rsa(result: RSA) -> str:
    if result.p != result.p:
        return f"Distances between emotions agree with rho = {result.rho:.2f}; untested, since both read the same texts"
    if result.p > ALPHA:
        return f"No likeness beyond relabelled emotions: rho = {result.rho:.2f} ({p_text(result.p)})"
    return f"Both models find the same emotions alike: rho = {result.rho:.2f} ({p_text(result.p)})"


def rsa_many(result: RSAMatrix) -> str:
    rho, held = result.table["rho"], int((result.table["q"] <= ALPHA).sum())
    pairs = share(held, len(rho), "pairs of models")
    return f"{capital(pairs)} find the same emotions alike, rho {rho.min():.2f} to {rho.max():.2f}"


def rsa_human(result: HumanRSA) -> str:
    space = str(result.table["space"].iloc[0])
    rows = result.table[result.table["space"] == space]
    where = layers(rows["p_corrected"])
    if where.endswith("no layer"):
        return f"No layer finds emotions alike that are alike to people, by {space}"
    return f"Emotions alike to people are alike in the model {where}, by {space} (rho up to {rows['rho'].max():.2f})"


def side_effects(result: SideEffects) -> str:
    spared = (
        "no more than under swapped labels" if result.p_spill > ALPHA else f"labels swapped: {result.null_spill:.2f}"
    )
    return f"Steering moves its target by {result.target:+.2f}, other emotions by {result.spill:.2f} ({spared})"


def circumplex(result: Circumplex) -> str:
    best = result.correlations.sort_values("abs_r", ascending=False).drop_duplicates("norm")
    rows = best[best["p_corrected"] <= ALPHA].sort_values("norm", ascending=False).to_dict("records")
    held = [f"{r['norm']} lies along {r['component'].upper()} (|r| = {r['abs_r']:.2f})" for r in rows]
    if not held:
        return "The two main axes follow neither human valence nor arousal"
    lone = "" if len(held) == 2 else "; the other norm follows neither axis"
    return capital(" and ".join(held)) + lone


def claims(result: Claims) -> str:
    """How many of the paper's claims came to which verdict, over all models or in the one there is."""
    table = result.table
    whole = table[table["scope"] == ALL_MODELS]
    counts = (whole if len(whole) else table)["verdict"].value_counts()
    said_of = [f"{counts[v]} {v}" for v in VERDICTS if v in counts]
    return f"The paper's claims: {', '.join(said_of)}"


def dose_response(result: DoseResponse) -> str:
    found = result.headline
    if found is None:
        return "Success by dose; no dose could be chosen on other texts"
    if not found.doses:
        return "No dose steers without breaking the text"
    verdict = "Steering works" if found.beyond else "Steering is not told from its controls"
    return f"{verdict}: {found.success} of {found.n} texts succeed, under random directions {found.random}"


def regime_map(result: RegimeMap) -> str:
    hits = {c: (rows["regime"] == SURGICAL) for c, rows in result.table.groupby("condition")}
    said_of = f"{int(hits['emotion'].sum())} of {len(hits['emotion'])} cells are surgical"
    return said_of + (f", under random directions {int(hits['random'].sum())}" if "random" in hits else "")


def regimes(results: Mapping[str, DoseResponse]) -> str:
    def steered(condition: str) -> int:
        tables = (r.table[r.table["condition"] == condition] for r in results.values())
        return sum(SURGICAL in set(table["regime"]) for table in tables)

    head = capital(share(steered("emotion"), len(results), "models"))
    return f"{head} can be steered surgically, by random directions {steered('random')}"


def by_architecture(result: ArchitectureTest) -> str:
    rows = result.table[result.table["unit"] == "natural"]
    tested = rows[~rows["verdict"].astype(str).str.startswith(NOT_TESTABLE)]
    n = len(result.models)
    if tested.empty:
        return f"Too few models ({n}) to tell what sets the dose at which text breaks"
    held = [str(f) for f in tested[tested["p"] <= ALPHA]["factor"]]
    said_of = f"goes with {' and '.join(held)}" if held else f"is not shown to go with {' or '.join(tested['factor'])}"
    return f"The dose at which text breaks {said_of} ({n} models)"


def leakage(result: Leakage) -> str:
    if result.onset is None:
        return f"Steering brings out no letters that are not {result.home} beyond random directions"
    return (
        f"Letters that are not {result.home} come out from dose {result.onset:g} on, more than under random directions"
    )


def verification(result: Verification) -> str:
    form = result.table["form"].iloc[0]
    rows = result.table[result.table["form"] == form].groupby("condition", sort=False)[["k", "n"]].sum()
    k, n = rows.loc["emotion"]
    random = f", under random directions in {rows.loc['random', 'k']}" if "random" in rows.index else ""
    return f"The judge sees the steered emotion in {k} of {n} scenarios{random}"


def preview(result: Sequence[TokenRole]) -> str:
    return f"{share(sum(r.role == 'pooled' for r in result), len(result), 'tokens')} are averaged"


def token_scores(result: TokenScores) -> str:
    held = (result.p_corrected <= ALPHA)[:, np.asarray(result.content, dtype=bool)]
    k, n = int(held.any(axis=0).sum()), held.shape[1]
    return f"{capital(share(k, n, 'tokens'))} lie towards or away from an emotion beyond random directions"


def lens(best: DataFrame, side: str) -> str:
    k = int((false_discovery_control(best["p_corrected"]) <= ALPHA).sum())
    verb = "brings out" if side == "up" else "pushes down"
    if not k:
        return f"No emotion vector {verb} a script beyond random directions"
    return (
        f"{capital(share(k, len(best), 'emotion vectors'))} {verb.replace('s ', ' ')} a script beyond random directions"
    )
