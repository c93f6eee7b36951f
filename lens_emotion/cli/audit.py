"""`lens-emotion audit`: what may be wrong with a run, with vectors, or with another project's table of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lens_emotion.cli.model import Overwrite
from lens_emotion.cli.say import say_line, say_prose, say_wrapped
from lens_emotion.errors import ArtifactError

if TYPE_CHECKING:
    from pandas import DataFrame

    from lens_emotion.audits.finding import Audit

LINES = 5  # findings of one kind that are told one by one
STYLES = {"critical": "bold red", "major": "yellow", "minor": ""}
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="What a column of a table is: THEIRS=cosine; may be given several times."),
]


def audit(
    subject: Annotated[
        list[Path],
        typer.Argument(help="A run folder; vectors, activations or a table (CSV, TSV, JSON); a folder of them."),
    ],
    activations: Annotated[
        Path | None, typer.Option(help="Readings of the same model, to tell the vectors' signal from noise.")
    ] = None,
    column: Columns = None,
    n_emotions: Annotated[int | None, typer.Option(min=2, help="Classes that a table's numbers are about.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="File for findings and checks, as JSON.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="File for a page of its own.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Ask a result what may be wrong with it; no model is run. Exits with 1 if a finding is critical."""
    from lens_emotion.audits.audit import audit as asked
    from lens_emotion.files.artifacts import same_file, save_anew

    for option, path in (("--json", out), ("--html", page)):  # before it takes its time
        if path is not None and path.exists() and any(same_file(path, x) for x in subject if x.exists()):
            raise ArtifactError(f"{path} is what is being read; give another {option}")
    given = [str(path) for path in subject]
    found = asked(given[0] if len(given) == 1 else given, activations, columns=_named(column), n_emotions=n_emotions)
    print_audit(found)
    for path, write in ((out, found.save), (page, lambda path: _write_page(found, path))):
        if path is not None:
            say_line(f"written: {save_anew(write, path, overwrite, subject)}")
    if not found.ok:
        raise typer.Exit(1)


def _named(given: list[str] | None) -> dict[str, str]:
    """ "avg_sim=cosine" -> {"avg_sim": "cosine"}"""
    pairs = [words.rpartition("=") for words in given or []]
    if wrong := next((words for words, (a, _, b) in zip(given or [], pairs, strict=True) if not a or not b), None):
        raise ArtifactError(f"--column {wrong!r}: give THEIRS=OURS, such as avg_sim=cosine")
    return {theirs: ours for theirs, _, ours in pairs}


def _write_page(found: Audit, path: Path) -> Path:
    from lens_emotion.files.artifacts import atomic_write
    from lens_emotion.report.audit_section import audit_page

    return atomic_write(path, audit_page(found))


def print_audit(found: Audit) -> None:
    """The findings of a check together, the worst first; then what passed, and what could not be asked."""
    from lens_emotion.audits.finding import PASSED, UNASKED

    faults = {o.check.name: o.check.fault for o in found.outcomes}
    for (severity, check), rows in found.findings.groupby(["severity", "check"], sort=False):
        _print_findings(str(severity), str(check), faults[str(check)], rows)
    for status, style in ((PASSED, "green"), (UNASKED, "dim")):
        for outcome in (o for o in found.outcomes if o.status == status):
            say_wrapped(Text(f"{status:<9} ", style=style), f"{outcome.check.name}: {outcome.brief}", "dim")
    say_prose(found.summary())


def _print_findings(severity: str, check: str, fault: str, rows: DataFrame) -> None:
    """What is wrong, once where it is the same; where, and by how much; how to mend it, once."""
    same = rows["what"].nunique() == 1
    say_wrapped(Text(f"{severity:<9} ", style=STYLES[severity]), f"{check}: {rows['what'].iloc[0] if same else fault}")
    told = [
        f"{row['where']}: " + ("" if same else f"{row['what']}; ") + f"{row['moves']:.3g} {row['unit']}"
        for row in rows.to_dict("records")
    ]
    lines = list(dict.fromkeys(told))  # a file may have been given twice
    if len(lines) > LINES + 1:
        lines = [*lines[:LINES], f"and {len(lines) - LINES} more of the kind (--json has all)"]
    for line in lines:
        say_wrapped(Text(" " * 10), line, "dim")
    say_wrapped(Text(" " * 10), f"mend: {rows['mend'].iloc[0]}", "dim")
