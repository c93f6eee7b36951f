"""Sections of a model's card: writing against reading, tokens, steering, other languages."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.report_cells import text_cells
from lens_emotion.report_parts import Section, TextPair
from lens_emotion.steering.experiment import DoseResponse
from lens_emotion.study.results import ModelStudy

Draw = Callable[[str, go.Figure], go.Figure]

_OVERALL = [
    *("test", "measure", "unit", "n", "a", "b", "difference", "estimate"),
    *("low", "high", "p", "effect", "d", "warning"),
]


def versus_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """Writing against reading, paired; beside it the paper's unpaired test of its presets."""
    assert m.versus is not None
    text = m.versus.summary()
    tables = [("Over layers: a is writing, b is reading", m.versus.overall[_OVERALL], f"{where}/versus.csv")]
    figures = [("Writing and reading, held-out decoding", draw("versus", plots.compare(m.versus)))]
    if m.versus_preset:
        figures.append(("The paper's presets, mean cosine", draw("versus_preset", plots.compare(m.versus_preset))))
        text += (
            f"\n\nThe paper's presets: {m.versus_preset.summary()} Its own test is unpaired and takes layers as "
            "independent, which they are not; it is shown for comparison."
        )
        tables.append(("The paper's presets", m.versus_preset.overall[_OVERALL], f"{where}/versus_preset.csv"))
    return Section(
        "Writing against reading",
        text,
        figures=tuple(figures),
        tables=tuple(tables),
    )


def token_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """The logit lens of every vector: words, and their scripts against random directions."""
    rows = m.lens.table[(m.lens.table.side == "up") & (m.lens.table["rank"] <= 6)]
    words = rows.groupby("emotion", sort=False)["token"].apply(lambda tokens: "  ".join(map(str, tokens)))
    return Section(
        "Which tokens the vectors bring out",
        f"{m.lens.summary()} The tokens are read off the unembedding, without generating.",
        figures=(("Tokens that every vector brings out, and their scripts", draw("lens", plots.lens(m.lens))),),
        tables=(("Top tokens", words.rename("tokens").reset_index(), f"{where}/lens.csv"),),
    )


def leakage_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """Foreign letters in the steered texts."""
    assert m.leakage is not None
    tables = [("Foreign letters by dose", m.leakage.table, f"{where}/leakage.csv")]
    if m.leakage.words is not None and (m.leakage.words.target > 0).any():
        tables.append(("Chinese words of the emotion by dose", m.leakage.words, f"{where}/leakage_words.csv"))
    figure = draw("leakage", plots.leakage(m.leakage))
    shown = (("Letters of other scripts in steered texts", figure),)
    return Section("Other languages", f"{m.leakage.summary()}.", figures=shown, tables=tuple(tables))


def steering_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """Dose and response, the texts behind every cell, and what else steering moves."""
    steering = m.steering
    assert steering is not None
    figures = [("Dose-response", draw("dose_response", plots.dose_response(steering)))]
    spill = ""
    if m.side_effects:
        figures.append(("Side effects at the surgical dose", draw("side_effects", plots.side_effects(m.side_effects))))
        spill = f"\n\nSide effects: {m.side_effects.summary()}."
    return Section(
        "Steering",
        f"{steering.summary()}. Success: the target's score rises above the unsteered text's and above the 95th "
        "percentile of random directions of the same length; a second set of random directions is the control shown."
        f"{spill}",
        figures=tuple(figures),
        cells=text_cells(steering),
        tables=(("Steering by dose", steering.table, f"{where}/steering.csv"),),
        pairs=tuple(_pairs(steering)),
    )


def _pairs(steering: DoseResponse, n: int = 8) -> list[TextPair]:
    """Steered beside unsteered and randomly pushed texts at the surgical dose (or the middle one)."""
    doses = sorted(steering.table.dose.unique())
    dose = steering.surgical_dose or doses[len(doses) // 2]
    texts = steering.texts[steering.texts.dose == dose]
    mine = texts[texts.condition == "emotion"]
    random = texts[texts.condition == "random"]
    control = dict(zip(random.scenario.tolist(), random.text.tolist(), strict=True))
    unsteered: dict[object, str] = dict(enumerate(steering.unsteered.text.tolist()))
    every = max(1, len(mine) // n)
    return [
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
