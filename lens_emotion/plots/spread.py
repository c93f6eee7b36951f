"""Side effects: what steering towards one emotion does to the scores of all others."""

from __future__ import annotations

import plotly.graph_objects as go

from lens_emotion.plots.contracts_steering import SideEffectsLike
from lens_emotion.plots.matrices import colour_bar, square
from lens_emotion.plots.theme import DIVERGING, titled
from lens_emotion.plots.words import by_valence, p_words, plain


def side_effects(result: SideEffectsLike) -> go.Figure:
    """Mean change in every emotion's score against random directions; the target's own change is written in its cell.

    The scale is that of the side effects, so that they can be seen beside targets many times as large.
    """
    rows = by_valence([str(e) for e in result.matrix.index])
    columns = [*[e for e in rows if e in result.matrix.columns], *[e for e in result.matrix.columns if e not in rows]]
    matrix = result.matrix.loc[rows, columns]
    on = result.table.pivot(index="steered", columns="judged", values="target").loc[rows, columns].to_numpy(dtype=bool)
    changes = matrix.to_numpy()
    most = max(float(abs(changes[~on]).max(initial=0.0)), 1e-6)
    n = sorted({int(x) for x in result.table["n"]})
    written = [[_written(x) if own else "" for x, own in zip(r, o, strict=True)]
               for r, o in zip(changes, on, strict=True)]  # fmt: skip
    heat = go.Heatmap(
        z=changes, x=[plain(c) for c in columns], y=[plain(r) for r in rows], colorscale=DIVERGING, zmin=-most,
        zmid=0, zmax=most, text=written, texttemplate="%{text}", textfont={"size": 9}, xgap=1, ygap=1,
        colorbar=colour_bar("change"),
        hovertemplate="steered to %{y}<br>judged %{x}: %{z:+.3f}<extra></extra>",
    )  # fmt: skip
    figure = square(heat, "judged emotion", "steered towards")
    facts = (
        f"dose {result.dose:g}, n = {_range(n)} scenarios per row, against random directions",
        f"targets {result.target:+.3f} ({p_words(result.p_target)})",
        f"others {result.spill:.3f} in absolute value ({p_words(result.p_spill)}, swapped labels to "
        f"{result.null_spill:.3f})",
        "written: the target's own change, off the scale",
    )
    return titled(figure, "Side effects of steering: change in judged score", facts, height=580)


def _written(change: float) -> str:
    """One digit, which fits a cell: .9, 1, -.2."""
    return f"{change:.1f}".replace("0.", ".").removesuffix(".0")


def _range(n: list[int]) -> str:
    return str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}"
