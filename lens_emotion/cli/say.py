"""What the command line prints. Imported by commands only, since it pulls in torch and rich."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lens_emotion.errors import StimulusError, UnknownModelError
from lens_emotion.models.catalog import CATALOG
from lens_emotion.run.config import StudyConfig
from lens_emotion.study.workers import Executor

out = Console(highlight=False)


def say_line(text: str | Text = "") -> None:
    """A line of text that the terminal, not rich, breaks: paths stay whole, and a pipe gets one line."""
    out.print(text, soft_wrap=True)


def table(*columns: str, title: str = "", right: tuple[int, ...] = ()) -> Table:
    made = Table(title=title or None, box=None, title_justify="left", header_style="bold underline", pad_edge=False)
    made.padding = (0, 2, 0, 0)
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i in right else "left", overflow="fold", no_wrap=i == 0)
    return made


def print_models(family: str | None, hub: bool) -> None:
    rows = [s for s in CATALOG if family in (None, s.family)]
    if not rows:
        families = ", ".join(dict.fromkeys(s.family for s in CATALOG))
        raise UnknownModelError(f"no family '{family}'; the catalog has {families}")
    made = table("name", "family", "kind", "size", "layers", "width", "hub id" if hub else "paper", right=(3, 4, 5))
    for s in rows:
        size = f"{s.millions / 1000:.1f}B" if s.millions >= 1000 else f"{s.millions:g}M"
        last = (s.hub_id or "in the package") if hub else s.paper
        gated = "*" if s.gated else ""
        made.add_row(s.name + gated, s.family, s.kind, size, str(s.n_layers), str(s.d_model), last)
    out.print(made)
    say_line("* gated: accept its licence on the hub first. paper: used in arXiv 2604.04064 (named or inferred).")
    say_line("Any other hub id, Hugging Face folder or .gguf file works too.")


def run_and_print(config: StudyConfig, folder: Path, command: str, executor: Executor | None = None) -> None:
    """Run a study with a live line per step, then print the summary and where the report lies."""
    from lens_emotion.report.build import build_report
    from lens_emotion.run.lock import writing
    from lens_emotion.study.pipeline import run_study
    from lens_emotion.study.verdict import NOT_SUPPORTED, SUPPORTED

    started = time.monotonic()
    say_line(f"[bold]lens-emotion study[/]: {', '.join(Path(m).name for m in config.models)} -> {folder}")

    def say(model: str, doing: str) -> None:
        say_line(f"[dim]{time.monotonic() - started:7.1f} s[/]  {Path(model).name:<18} {doing}")

    with writing(folder):
        run = run_study(config, folder, command, say, executor)
        say("report", "drawing figures and writing the page")
        report, rows = build_report(run)
    say_line("\n[bold]Summary[/] (every number beside its null or control)")
    for row in rows:
        _print_summary(row)
    say_line("\n[bold]The paper's claims, over all models[/] (why, and for each model: claims.json and the report)")
    styles = {SUPPORTED: "green", NOT_SUPPORTED: "yellow"}
    for claim in run.claims.overall:
        verdict = Text(f"{claim.verdict:<18}", style=styles.get(claim.verdict, "dim"))
        say_line(Text(f"  {claim.code}  ").append(verdict).append(claim.statement))
    say_line(f"\nreport: [bold]{report}[/]")
    say_line(f"tables, activations and vectors: {run.folder}/MODEL/   ({time.monotonic() - started:.0f} s)")


def _print_summary(row: dict[str, object]) -> None:
    """One line per finding, so that it fits a narrow terminal."""
    from lens_emotion.report.page import as_cell, number

    styles = {"good": "green", "noise": "yellow", "plain": ""}
    for i, (label, value) in enumerate(row.items()):
        cell = as_cell(value)
        shown = Text(number(cell.value), style="bold" if i == 0 else styles[cell.tone])
        if cell.note:
            shown.append(f"  ({cell.note})", style="dim")
        say_line(shown if i == 0 else Text(f"  {label:<15} ").append(shown))


def extract_and_print(
    name: str,
    folder: Path,
    method: str,
    recipe: str,
    stimuli: str | None,
    backend: str,
    dtype: str,
    device: str | None,
    quantise: str | None = None,
) -> None:
    from lens_emotion.analysis.separation import separation
    from lens_emotion.extraction.comprehension import extract_comprehension
    from lens_emotion.extraction.generation import extract_generation
    from lens_emotion.files.artifacts import ensure_writable
    from lens_emotion.models.loading import load_model
    from lens_emotion.stimuli.library import load_stimuli
    from lens_emotion.vectors.recipes import emotion_vectors, recipe_steps

    if method not in ("comprehension", "generation", "jeong"):
        raise StimulusError(f"unknown method '{method}'; use comprehension, generation or jeong")
    recipe_steps(recipe)
    if stimuli:
        load_stimuli(stimuli)  # a fault in it is said before the model is loaded
    ensure_writable(folder)
    model = load_model(name, backend=backend, dtype=dtype, device=device, quantise=quantise)
    if method == "comprehension":
        acts = extract_comprehension(model, stimuli)
    else:
        preset = "jeong" if method == "jeong" else "topic-crossed"
        acts = extract_generation(model, preset=preset, stimuli=stimuli).conditioned
    vectors = emotion_vectors(acts, recipe)
    say_line(str(acts))
    say_line(separation(acts, recipe).summary())
    for note in acts.header.notes:
        say_line(f"note: {note}")
    say_line(f"activations: {acts.save(folder / f'{method}.safetensors')}")
    say_line(f"vectors:     {vectors.save(folder / f'{method}_{recipe}.safetensors')}")


def print_stimuli() -> None:
    from lens_emotion.stimuli.library import NAMES, load_stimuli

    made = table("name", "texts", "emotions", "topics", "sha256", right=(1, 2, 3))
    for name in NAMES:
        texts = load_stimuli(name)
        made.add_row(name, str(len(texts)), str(len(texts.emotions)), str(len(texts.topics)), texts.sha256[:12])
    out.print(made)


def lint_and_print(file: Path, min_words: int, max_words: int) -> bool:
    """True if the file is clean."""
    from lens_emotion.stimuli.lint import LintRules, lint
    from lens_emotion.stimuli.sets import read_stimulus_file

    read = read_stimulus_file(file)
    findings = lint(read, LintRules(min_words, max_words))
    for finding in findings:
        say_line(Text(str(finding)))
    texts = read.stimuli
    size = f"{len(texts)} texts, {len(texts.emotions)} emotions, {len(texts.topics)} topics"
    say_line(f"{texts.name}: {size}: {'clean' if not findings else f'{len(findings)} faults'}")
    return not findings


def preview_and_print(name: str, text: str, start: int) -> None:
    from lens_emotion.extraction.comprehension import preview
    from lens_emotion.extraction.pooling import story_mean
    from lens_emotion.models.loading import load_model

    roles = preview(load_model(name), text, story_mean(start))
    styles = {"pooled": "bold green", "skipped": "yellow", "special": "dim"}
    line = Text()
    for token in roles:
        line.append(token.token.replace("\n", "\\n"), style=styles[token.role]).append("|", style="dim")
    say_line(line)
    counts = {role: sum(t.role == role for t in roles) for role in styles}
    for role, style in styles.items():
        say_line(Text(f"{role}: {counts[role]}", style=style))
