"""The texts behind every cell of the dose table: what was written, what was measured, what the judge said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pandas import DataFrame

from lens_emotion.report.parts import PlainText, SteeredText, TextCell, TextCells
from lens_emotion.steering.dose_result import DoseResponse

CONDITIONS = {
    "emotion": "emotion vectors",
    "random": "random directions, same length",
    "other": "another emotion's vector",
}


def text_cells(steering: DoseResponse) -> TextCells:
    """Conditions by doses; every cell with its regime, its numbers and all of its texts."""
    table = steering.table.sort_values("dose")
    mine = table[table.condition == "emotion"].to_dict("records")
    frames = {c: steering.texts[steering.texts.condition == c] for c in ("emotion", "random")}
    frames |= {"other": steering.others} if len(steering.others) else {}
    rows = []
    for condition, frame in frames.items():
        known = table[table.condition == condition].to_dict("records")
        of = [_cell(r, frame) for r in known] if known else [_other(r, frame) for r in mine]
        rows.append((CONDITIONS[condition], tuple(of)))
    first = steering.texts.drop_duplicates("scenario").sort_values("scenario").to_dict("records")
    plain = steering.unsteered.to_dict("records")
    doses = [float(r["dose"]) for r in mine]
    return TextCells(
        caption="Regime, scenarios that succeed, and perplexity ratio (× the unsteered texts'). Open a cell for its "
        "texts. * also loops.",
        columns=tuple((f"{r['dose_natural']:.3g}", f"{r['dose_relative']:.2g}") for r in mine),
        keys=tuple(frames),
        rows=tuple(rows),
        scenarios=tuple(
            PlainText(str(t["emotion"]), str(t["prompt"]), str(u["text"]), str(u["top_emotion"]), t["unsteered_score"])
            for t, u in zip(first, plain, strict=True)
        ),
        opened=(0, doses.index(steering.shown_dose)),
    )


def _cell(r: Mapping[Any, Any], frame: DataFrame) -> TextCell:
    facts = (
        f"{r['regime']}{', looping' * bool(r['looping'])}: {r['success']:.0f} of {r['n']:.0f} scenarios succeed (95% "
        f"{r['success_low']:.2f} to {r['success_high']:.2f}), perplexity ratio {r['perplexity_ratio']:.2f} and "
        f"{r['surprise']:.2f} times the expected, distinct-2 {r['distinct_2']:.2f}, loop share {r['loop_share']:.2f}"
    )
    note = f"{r['success']:.0f}/{r['n']:.0f}, ×{_ratio(r['perplexity_ratio'])}"
    return TextCell(f"{r['regime']}{'*' * bool(r['looping'])}", note, str(r["regime"]), facts, _texts(r["dose"], frame))


def _ratio(x: float) -> str:
    """Two digits, without an exponent up to a million."""
    short = float(f"{x:.2g}")
    return f"{short:,.0f}" if 10 <= short < 1e6 else f"{x:.2g}"


def _other(r: Mapping[Any, Any], frame: DataFrame) -> TextCell:
    """The second control has counts of its own and no regime."""
    count = f"{r['other_success']:.0f}/{r['n']:.0f}"
    facts = (
        f"{r['other_success']:.0f} of {r['n']:.0f} scenarios succeed (95% {r['other_success_low']:.2f} to "
        f"{r['other_success_high']:.2f})"
    )
    return TextCell("control", count, "", facts, _texts(r["dose"], frame))


def _texts(dose: float, frame: DataFrame) -> tuple[SteeredText, ...]:
    rows = frame[frame.dose == dose].sort_values("scenario").to_dict("records")
    numbers = ("target_score", "perplexity_ratio", "distinct_2", "loop_share")
    return tuple(
        SteeredText(
            scenario=int(r["scenario"]),
            text=str(r["text"]),
            judged=str(r["top_emotion"]),
            regime=str(r["text_regime"]),
            success=bool(r["success"]),
            **{name: float(r[name]) for name in numbers},
        )
        for r in rows
    )
