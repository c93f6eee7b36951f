"""What `lens-emotion drift` prints: one model read in two precisions, emotion by emotion, beside the reliability."""

from __future__ import annotations

from lens_emotion.analysis.drift import Drift, drift
from lens_emotion.console import out, say_line, table
from lens_emotion.errors import UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.models.loading import load_model


def drift_and_print(
    name: str, dtype: str, against: str, quantise: str | None, stimuli: str | None, backend: str, device: str | None
) -> Drift:
    """Read the same texts twice, one model in memory at a time, and print how far the vectors lie apart."""
    if dtype == against and quantise is None:
        raise UnsupportedModelError(f"{dtype} against {dtype}: give two precisions, such as --dtype bfloat16")

    def read(precision: str, width: str | None) -> PooledActivations:
        model = load_model(name, backend=backend, dtype=precision, device=device, quantise=width)
        return extract_comprehension(model, stimuli)

    rounded = read(dtype, quantise)  # first, since it is the one that may be refused
    exact = read(against, None)
    found = drift(exact, rounded, allow_other_weights=quantise is not None or "float16" in (dtype, against))
    print_drift(found)
    return found


def print_drift(found: Drift) -> None:
    """A line an emotion: its cosine at the middle layer and at its worst one, each with the reliability there."""
    made = table(
        "emotion", "cosine", "reliability", "smallest cosine", "at layer", "reliability there", right=(1, 2, 3, 4, 5)
    )
    for row in found.by_emotion.itertuples():
        made.add_row(
            str(row.emotion),
            f"{row.cosine:.6f}",
            f"{row.reliability:.2f}",
            f"{row.cosine_min:.6f}",
            str(row.layer_min),
            f"{row.reliability_min:.2f}",
        )
    out.print(made)
    say_line(f"cosine: between the vectors of both readings, at layer {len(found.by_layer) // 2}, the middle one;")
    say_line("reliability: split-half cosine of the first reading's vector, how well the texts themselves fix it.")
    say_line(found.summary())
