"""`lens-emotion stimuli`: stimulus sets listed, checked and previewed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from lens_emotion.cli.say import say_line, say_prose, say_table, table
from lens_emotion.errors import StimulusError

stimuli_app = typer.Typer(no_args_is_help=True, help="Stimulus sets: list, lint, preview, and the file format.")


@stimuli_app.command("list")
def list_stimuli() -> None:
    """List the stimulus sets that ship with the package."""
    from lens_emotion.stimuli.library import NAMES, load_stimuli

    made = table("name", "texts", "emotions", "topics", "sha256", right=(1, 2, 3))
    for name in NAMES:
        texts = load_stimuli(name)
        made.add_row(name, str(len(texts)), str(len(texts.emotions)), str(len(texts.topics)), texts.sha256[:12])
    say_table(made)


@stimuli_app.command("lint")
def lint_stimuli(
    file: Annotated[Path, typer.Argument(help="Texts in CSV, JSONL, JSON or TOML (see `stimuli format`).")],
    min_words: Annotated[int, typer.Option(min=0, help="Shortest text wanted.")] = 35,
    max_words: Annotated[int, typer.Option(min=1, help="Longest text wanted.")] = 70,
) -> None:
    """Check a stimulus set: leaked words, missing cells, duplicate openings, lengths. Exits with 1 on faults."""
    from lens_emotion.stimuli.library import NAMES
    from lens_emotion.stimuli.lint import LintRules, lint
    from lens_emotion.stimuli.tables import read_texts

    if str(file) in NAMES and not file.exists():
        raise StimulusError(f"'{file}' ships with the package and was linted there; give a file of yours")
    read = read_texts(file)
    findings = lint(read, LintRules(min_words, max_words))
    if findings:
        made = table("fault", "text", "what to do", prose=(2,))
        for finding in findings:
            made.add_row(finding.kind, finding.text_id or "(set)", finding.message)
        say_table(made)
    texts = read.stimuli
    size = f"{len(texts)} texts, {len(texts.emotions)} emotions, {len(texts.topics)} topics"
    say_line(f"{texts.name}: {size}: {f'{len(findings)} faults' if findings else 'clean'}")
    for limit in texts.limits:
        say_prose(f"note: {limit}")
    if findings:
        raise typer.Exit(1)


@stimuli_app.command("format")
def stimuli_format() -> None:
    """Print the file format of stimulus sets."""
    from lens_emotion.stimuli import sets

    print((sets.__doc__ or "").strip())


@stimuli_app.command("preview")
def preview_text(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    text: Annotated[str, typer.Argument(help="The text.")],
    start: Annotated[int, typer.Option(min=0, help="First content token that is pooled.")] = 0,
) -> None:
    """Show which tokens of a text are pooled, skipped or special, and which rule put what in front."""
    from lens_emotion.extraction.comprehension import preview
    from lens_emotion.extraction.pooling import story_mean
    from lens_emotion.models.loading import load_model

    roles = preview(load_model(model), text, story_mean(start))
    styles = {"pooled": "bold green", "skipped": "yellow", "special": "dim"}
    marks = {"pooled": ("", ""), "skipped": ("(", ")"), "special": ("[", "]")}  # also without colours
    line = Text()
    for token in roles:
        before, after = marks[token.role]
        line.append(f"{before}{token.token}{after}".replace("\n", "\\n"), styles[token.role]).append("|", style="dim")
    say_line(line)
    say_prose(roles.first)
    for role, style in styles.items():
        before, after = marks[role]
        say_line(Text(f"{before}{role}{after}: {sum(t.role == role for t in roles)}", style=style))
