"""Sections of a model's card: writing against reading, tokens, steering, other languages."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.report import Section, TextPair
from lens_emotion.steering.experiment import DoseResponse
from lens_emotion.study.results import ModelStudy

Draw = Callable[[str, go.Figure], go.Figure]

_OVERALL = [
    *("test", "measure", "unit", "n", "a", "b", "difference", "estimate"),
    *("low", "high", "p", "effect", "d", "warning"),
]


def versus_section(m: ModelStudy, where: str) -> Section:
    """Writing against reading, paired; beside it the paper's unpaired test of its presets."""
    assert m.versus is not None
    text = m.versus.summary()
    tables = [("Over layers: a is writing, b is reading", m.versus.overall[_OVERALL], f"{where}/versus.csv")]
    if m.versus_preset:
        text += (
            f"\n\nThe paper's presets: {m.versus_preset.summary()} Its own test is unpaired and takes layers as "
            "independent, which they are not; it is shown for comparison."
        )
        tables.append(("The paper's presets", m.versus_preset.overall[_OVERALL], f"{where}/versus_preset.csv"))
    return Section(
        "Writing against reading",
        text,
        tables=tuple(tables),
    )


def geometry_section(m: ModelStudy, draw: Draw) -> Section:
    """How the vectors lie to one another, and to people's ratings where there are any."""
    ring = m.circumplex
    words = f"No circumplex: {ring}." if isinstance(ring, str) else ring.summary()
    rated = [] if isinstance(ring, str) else [("Principal components beside human norms", "circumplex", ring)]
    return Section(
        "Geometry",
        f"{m.similarity.summary()} {words}",
        figures=(
            ("Similarity of the emotion vectors, clustered", draw("similarity", plots.similarity(m.similarity))),
            *((title, draw(name, plots.circumplex(found))) for title, name, found in rated),
            ("Confusion at the best layer", draw("confusion", plots.confusion(m.comprehension.decoding))),
            ("Anisotropy", draw("anisotropy", plots.anisotropy(m.anisotropy))),
        ),
    )


def token_section(m: ModelStudy, where: str) -> Section:
    """The logit lens of every vector: words, and their scripts against random directions."""
    rows = m.lens.table[(m.lens.table.side == "up") & (m.lens.table["rank"] <= 6)]
    words = rows.groupby("emotion", sort=False)["token"].apply(lambda tokens: "  ".join(map(str, tokens)))
    return Section(
        "Which tokens the vectors bring out",
        f"{m.lens.summary()} The tokens are read off the unembedding, without generating.",
        tables=(("Top tokens", words.rename("tokens").reset_index(), f"{where}/lens.csv"),),
    )


def leakage_section(m: ModelStudy, where: str) -> Section:
    """Foreign letters in the steered texts."""
    assert m.leakage is not None
    tables = [("Foreign letters by dose", m.leakage.table, f"{where}/leakage.csv")]
    if m.leakage.words is not None and (m.leakage.words.target > 0).any():
        tables.append(("Chinese words of the emotion by dose", m.leakage.words, f"{where}/leakage_words.csv"))
    return Section("Other languages", f"{m.leakage.summary()}.", tables=tuple(tables))


def steering_section(steering: DoseResponse, draw: Draw, where: str) -> Section:
    return Section(
        "Steering",
        f"{steering.summary()}. Success: the target's score rises above the unsteered text's and above the 95th "
        "percentile of random directions of the same length; a second set of random directions is the control shown.",
        figures=(("Dose-response", draw("dose_response", plots.dose_response(steering))),),
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
