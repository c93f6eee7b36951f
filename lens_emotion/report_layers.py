"""The section that a layer slider drives: who is like whom, the main axes, and texts token by token."""

from __future__ import annotations

from lens_emotion import plots
from lens_emotion.report_parts import LayerSlider, LayerStop, Section
from lens_emotion.study.atlas import Atlas
from lens_emotion.study.results import ModelStudy


def layers_section(m: ModelStudy) -> Section:
    """Similarity, circumplex and two texts at every layer, beginning at the best layer of held-out decoding."""
    best = m.comprehension.decoding.best_layer
    rated = f"No circumplex: {m.circumplex}." if isinstance(m.circumplex, str) else m.circumplex.summary()
    text = (
        f"Move the slider: all figures go to that layer. It begins at layer {best}, where held-out decoding of the "
        f"texts read is best.\n\n{m.similarity.summary()} {rated} p-values in these figures are "
        "of one layer alone: to slide until one is small is to search."
    )
    slider = LayerSlider(tuple(_stops(m)), best, "held-out decoding accuracy, comprehension", _figures(m.atlas))
    return Section("Layer by layer", text, layers=slider, opened=True)


def _stops(m: ModelStudy) -> list[LayerStop]:
    decoding = m.comprehension.decoding
    rows = decoding.table.to_dict("records")
    return [
        LayerStop(
            f"layer {i} (depth {r['depth']:.2f}): held-out accuracy {r['accuracy']:.2f}, permuted labels "
            f"{r['null_low']:.2f} to {r['null_high']:.2f}{', the best layer' * (i == decoding.best_layer)}",
            float(r["accuracy"]),
            float(r["null_high"]),
        )
        for i, r in enumerate(rows)
    ]


def _figures(atlas: Atlas) -> tuple[tuple[str, tuple], ...]:
    found = [
        ("Cosines between the emotion vectors", tuple(plots.similarity(s) for s in atlas.similarity.layers)),
    ]
    if atlas.circumplex:
        found.append(("Principal components beside human norms", tuple(plots.circumplex(c) for c in atlas.circumplex)))
    for text in atlas.texts:
        caption = (
            f"The opening of a text written to be {text.emotion} (topic: {text.topic}), token by token. "
            "Vectors and random directions are made of texts of the other topics."
        )
        found.append((caption, tuple(plots.token_scores(s) for s in text.scores)))
    return tuple(found)
