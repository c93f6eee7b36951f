"""What `lens-emotion check` prints: every law, how far it was missed, and what to do about a broken one."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from lens_emotion.console import out, say_line, table
from lens_emotion.laws.check import LAWS, CheckReport, check
from lens_emotion.laws.law import LawResult
from lens_emotion.progress import track
from lens_emotion.vectors.emotion_vectors import EmotionVectors

VERDICTS = {True: ("holds", "green"), False: ("BROKEN", "bold red")}


def check_and_print(
    name: str, backend: str, dtype: str, device: str | None, vectors: Path | None, compare: bool
) -> bool:
    """Try every law, print the table; True if none is broken."""
    stored = EmotionVectors.load(vectors) if vectors else None
    laws = track(LAWS, "trying laws", total=len(LAWS))
    report = check(name, vectors=stored, compare=compare, backend=backend, dtype=dtype, device=device, laws=laws)
    print_report(report)
    return report.ok


def print_report(report: CheckReport) -> None:
    """The table, then a paragraph for each law that is broken or was not tried."""
    made = table("law", "deviation", "tolerance", "", right=(1, 2))
    for r in report.results:
        word, style = ("not tried", "dim") if r.skipped else VERDICTS[r.passed]
        numbers = ("", "") if r.skipped else (_number(r.deviation, r.unit), _number(r.tolerance, r.unit))
        made.add_row(Text(r.law), *numbers, Text(word, style=style))
    out.print(made)
    for r in report.results:
        if r.skipped or not r.passed:
            say_line(_why(r))
    if report.half_precision:
        say_line(f"{report.info.dtype}: rounding alone may move or lose a massive activation; see --dtype float32.")
    say_line("deviation: largest share of a state's length; 0 against 0 means equal to the bit.")
    say_line(f"{report.summary()} ({report.seconds:.0f} s)")


def _number(value: float, unit: str) -> str:
    return f"{value:.1e}" if unit == "relative" else f"{value:g}"


def _why(r: LawResult) -> Text:
    if r.skipped:
        return Text(f"not tried: {r.law}: {r.skipped}", style="dim")
    seen = f" ({r.note})" if r.note else ""
    return Text(f"broken: {r.law}{seen}: ", style="red").append(r.meaning, style="default")
