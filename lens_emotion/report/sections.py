"""The sections of a model's card: which exhibits stand where, what is said above them, and what only the page has: a
slider over layers, and the texts behind the dose table.

An exhibit that no section names, and that has a title, stands in the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.errors import AnalysisError
from lens_emotion.report.cells import text_cells
from lens_emotion.report.parts import LayerSlider, LayerStop, Section, TextPair
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.study.atlas import Atlas
from lens_emotion.study.exhibits import Exhibit, results_of
from lens_emotion.study.results import ModelStudy

Shown = tuple[Exhibit, Any, go.Figure]


@dataclass(frozen=True, eq=False)
class Plan:
    """A section before it is filled; it is left out where it names exhibits and a study has none of them.

    Attributes:
        text: what is said above the figures. exhibits: ids, in their order. opened: when the page opens.
        parts: fields of `Section` that only this one has, of a model whose tables lie in a folder.
    """

    title: str
    text: Callable[[ModelStudy], str]
    exhibits: tuple[str, ...] = ()
    opened: bool = False
    parts: Callable[[ModelStudy, str], Mapping[str, Any]] = lambda m, where: {}


def sections(m: ModelStudy, folder: str, keep: Callable[[str, go.Figure], object]) -> list[Section]:
    """All sections of one model, whose tables lie in this folder of a run; `keep` is given each figure and its name."""
    shown: dict[str, Shown] = {}
    for exhibit, result in results_of(m):
        if exhibit.figure:
            figure = draw(exhibit, result)
            keep(exhibit.id, figure)
            shown[exhibit.id] = exhibit, result, figure
    where = f"{folder}/tables"
    found = []
    for plan in (*PLANS, *_further(shown)):
        mine = [shown[name] for name in plan.exhibits if name in shown]
        if not mine and plan.exhibits:
            continue
        figures = tuple(
            (exhibit.caption(result), figure, _behind(exhibit, result, where)) for exhibit, result, figure in mine
        )
        listed = [row for exhibit, result, _ in mine for row in exhibit.listed(result)]
        tables = tuple((caption, frame, f"{where}/{name}.csv") for caption, frame, name in listed)
        found.append(Section(plan.title, plan.text(m), figures, tables, opened=plan.opened, **plan.parts(m, where)))
    return found


# what is drawn of a method whose tables another of its exhibits writes
WRITTEN_ELSEWHERE = {
    "separation_comprehension": "separation_comprehension",
    "reliability": "reliability_comprehension",
    "confusion": "confusion_comprehension",
}


def _behind(exhibit: Exhibit, result: Any, where: str) -> str:
    """Where the CSV behind its figure lies in the run folder; "" if nothing is tabulated."""
    name = next(iter(exhibit.csv(result)), WRITTEN_ELSEWHERE.get(exhibit.id))
    return f"{where}/{name}.csv" if name else ""


def _further(shown: Mapping[str, Shown]) -> list[Plan]:
    """The section of all that no other one names, under the sentences of its exhibits; none if there is nothing."""
    named = {name for plan in PLANS for name in plan.exhibits}
    rest = tuple(name for name, (exhibit, *_) in shown.items() if exhibit.title and name not in named)
    said = "\n\n".join(exhibit.says(result) for exhibit, result, _ in map(shown.__getitem__, rest))
    return [Plan("Further results", lambda m: said, rest)] if rest else []


def _layer_words(m: ModelStudy) -> str:
    best = m.comprehension.decoding.best_layer
    rated = m.circumplex.summary() if m.circumplex else f"No circumplex: {m.unrated}."
    return (
        f"Move the slider: all figures go to that layer. It begins at layer {best}, where held-out decoding of the "
        f"texts read is best.\n\n{m.similarity.summary()} {rated} p-values in these figures are "
        "of one layer alone: to slide until one is small is to search."
    )


def _slider(m: ModelStudy, where: str) -> Mapping[str, Any]:
    """Figures of every layer, beginning at the best layer of held-out decoding: who is like whom, the main axes, and
    texts token by token.
    """
    decoding = m.comprehension.decoding
    stops = [
        LayerStop(
            f"layer {i} (depth {r['depth']:.2f}): held-out accuracy {r['accuracy']:.2f}, permuted labels "
            f"{r['null_low']:.2f} to {r['null_high']:.2f}{', the best layer' * (i == decoding.best_layer)}",
            float(r["accuracy"]),
            float(r["null_high"]),
        )
        for i, r in enumerate(decoding.table.to_dict("records"))
    ]
    bars = "held-out decoding accuracy, reading"
    return {"layers": LayerSlider(tuple(stops), decoding.best_layer, bars, _layer_figures(m.atlas, where))}


def _layer_figures(atlas: Atlas, where: str) -> tuple[tuple[str, tuple, str], ...]:
    similar = tuple(plots.similarity(s) for s in atlas.similarity.layers)
    found = [("Cosines between the emotion vectors", similar, f"{where}/similarity_by_layer.csv")]
    if atlas.circumplex:
        figures = tuple(plots.circumplex(c) for c in atlas.circumplex)
        found.append(("Principal components beside human norms", figures, f"{where}/circumplex_by_layer.csv"))
    for i, text in enumerate(atlas.texts, 1):
        caption = (
            f"The opening of a text written to be {text.emotion} (topic: {text.topic}), token by token. "
            "Vectors and random directions are made of texts of the other topics."
        )
        found.append((caption, tuple(plots.token_scores(s) for s in text.scores), f"{where}/tokens_{i}.csv"))
    return tuple(found)


def _beyond_words(m: ModelStudy) -> str:
    words = f"Beyond the words: not testable here, since {m.words}." if isinstance(m.words, str) else m.words.summary()
    twins = m.twins.summary() if m.twins else "Twins: not testable here, since the set has no twins."
    return f"{words}\n\n{twins}"


def _versus_words(m: ModelStudy) -> str:
    said = [] if m.versus is None else [m.versus.summary()]
    if m.versus_preset is not None:
        said.append(
            f"The paper's presets: {m.versus_preset.summary()} Its own test is unpaired and takes layers as "
            "independent, which they are not; it is shown for comparison."
        )
    return "\n\n".join(said)


def _steering_words(m: ModelStudy) -> str:
    assert m.steering is not None
    paired = _paired(m.steering)
    spill = f"\n\nSide effects: {m.side_effects.summary()}." if m.side_effects else ""
    return (
        f"{m.steering.summary()}. Success: the target's score rises above the unsteered text's and above the 95th "
        "percentile of random directions of the same length; a second set of random directions is the control shown. "
        "The table by dose is detail: the best of its doses was not chosen elsewhere."
        f"{paired}{spill}"
    )


def _paired(steering: DoseResponse) -> str:
    """The gain of the target's score over both controls, which the claim rests on; nothing where there is none."""
    try:
        return f"\n\nIn scores rather than successes: {steering.paired().summary()}."
    except AnalysisError:
        return ""


def _steered_texts(m: ModelStudy, where: str) -> Mapping[str, Any]:
    """The texts behind the dose table, and some beside unsteered and randomly pushed ones at the dose shown."""
    assert m.steering is not None
    steering, n = m.steering, 8
    dose = steering.shown_dose
    texts = steering.texts[steering.texts.dose == dose]
    mine = texts[texts.condition == "emotion"]
    random = texts[texts.condition == "random"]
    control = dict(zip(random.scenario.tolist(), random.text.tolist(), strict=True))
    unsteered: dict[object, str] = dict(enumerate(steering.unsteered.text.tolist()))
    every = max(1, len(mine) // n)
    pairs = [
        TextPair(
            prompt=str(row.prompt),
            unsteered=unsteered[row.scenario],
            steered=str(row.text),
            label=str(row.emotion),
            note=f"dose {dose:g}; perplexity ratio {row.perplexity_ratio:.2f}; judged {row.top_emotion}",
            control=control[row.scenario],
        )
        for row in list(mine.itertuples())[::every][:n]
    ]
    return {"cells": text_cells(steering), "pairs": tuple(pairs)}


def _leakage_words(m: ModelStudy) -> str:
    """Of each protocol of steering what came out, and what would have been found."""
    return "\n\n".join(f"{x.summary()}. {x.design()}." for x in (m.leakage, m.leakage_everywhere) if x)


PLANS = (
    Plan(
        "Where emotion can be read",
        lambda m: (
            "Held-out decoding at every layer, folds by topic, with the band of permuted labels, by two decoders: the "
            "centred cosine, which a few massive dimensions can blind, and standardised per dimension."
            f"\n\n{_beyond_words(m)}"
        ),
        (
            "layer_sweep_comprehension",
            "words",
            "twins",
            "layer_sweep_generation_conditioned",
            "layer_sweep_generation_reread",
        ),
        opened=True,
    ),
    Plan("Layer by layer", _layer_words, opened=True, parts=_slider),
    Plan(
        "Separation, and why it needs company",
        lambda m: (
            "Mean pairwise cosine between the unit vectors (lower looks better) with its permutation null, above the "
            "decoding of the same states by both decoders. The cosine alone proves nothing: noise lowers it too."
        ),
        ("separation_comprehension", "separation_the_papers_generation_preset"),
    ),
    Plan("Writing against reading", _versus_words, ("versus", "versus_preset")),
    Plan(
        "How firm the vectors are",
        lambda m: m.comprehension.reliability.summary(),
        ("reliability", "confusion", "anisotropy"),
    ),
    Plan(
        "Which tokens the vectors bring out",
        lambda m: f"{m.lens.summary()} The tokens are read off the unembedding, without generating.",
        ("lens",),
    ),
    Plan("Steering", _steering_words, ("dose_response", "side_effects"), parts=_steered_texts),
    Plan("Other languages", _leakage_words, ("leakage",)),
)


def draw(exhibit: Exhibit, result: Any) -> go.Figure:
    """The figure of an exhibit, by the function of `lens_emotion.plots` that it names."""
    function = getattr(plots, exhibit.figure)
    if exhibit.panels:
        return plots.panels({model: function(exhibit.drawn(r)) for model, r in result.items()}, exhibit.panels(result))
    return function(exhibit.drawn(result), **exhibit.options)
