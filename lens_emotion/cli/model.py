"""What `lens-emotion steer` prints: unsteered, steered and randomly pushed text side by side, with measures."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from lens_emotion.analysis.drift import Drift, drift
from lens_emotion.cli.say import out, say_line, table
from lens_emotion.errors import UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.laws.check import LAWS, CheckReport, check
from lens_emotion.laws.subject import LawResult
from lens_emotion.models.access import Model, describe
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.layers import layers_in_words, resolve_layers
from lens_emotion.models.loading import load_model
from lens_emotion.play.launch import HOST, open_port, open_session, serve
from lens_emotion.progress import track
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.hooks import Centre, projection_centre
from lens_emotion.steering.measures import distinct_n, edit_distance, likelihood, loop_share, perplexity_ratio
from lens_emotion.vectors.emotion_vectors import EmotionVectors, mixture, parse_mixture, random_like
from lens_emotion.vectors.recipes import emotion_vectors


@dataclass(frozen=True)
class SteerRequest:
    """The arguments of the command, as typed."""

    model: str
    emotion: str
    prompt: str
    dose: float
    unit: str
    layers: int | str | None
    positions: str
    mode: str
    vectors: Path | None
    tokens: int
    temperature: float
    seed: int
    backend: str
    dtype: str
    device: str | None


def steer_and_print(asked: SteerRequest) -> None:
    """Continue one prompt three times and print the texts with their measures."""
    amount = Dose(asked.dose, asked.unit)
    terms = parse_mixture(asked.emotion)
    stored = EmotionVectors.load(asked.vectors) if asked.vectors else None
    model = load_model(asked.model, backend=asked.backend, dtype=asked.dtype, device=asked.device)
    vectors, centre = _vectors(model, asked, stored, terms)
    vector = mixture(vectors, terms)
    chosen = resolve_layers(asked.layers, vectors.n_layers)
    control = random_like(vectors, vector, asked.seed)
    steered = [Condition(asked.prompt, v, amount, mode=asked.mode, centre=centre) for v in (vector, control)]
    written = generate_steered(
        model,
        [Condition(asked.prompt), *steered],
        chosen,
        max_new_tokens=asked.tokens,
        sampling=Sampling(asked.temperature, 0.95, asked.seed),
        positions=asked.positions,
    )
    natural, relative = amount.in_units(vector, chosen[len(chosen) // 2])
    say_line(
        f"[bold]{describe(model).name}[/], {asked.mode} {vector.name}, {layers_in_words(chosen, vectors.n_layers)} of "
        f"{vectors.n_layers}, positions {asked.positions}: dose {natural:.2f} natural = {relative:.3f} of the mean "
        "residual norm"
    )
    _print_texts(model, asked.prompt, ("unsteered", vector.name, "random direction"), written)


def _vectors(
    model: Model, asked: SteerRequest, stored: EmotionVectors | None, terms: Sequence[tuple[float, str]]
) -> tuple[EmotionVectors, Centre]:
    """Vectors, read from the file or extracted now, and the centre of a clamp (the mean of all emotions)."""
    if stored is not None:
        stored.check_model(describe(model).fingerprint, describe(model).name)
        return stored, 0.0
    acts = extract_comprehension(model)
    vectors = emotion_vectors(acts)
    return vectors, projection_centre(acts, mixture(vectors, terms)) if asked.mode == "clamp" else 0.0


def _print_texts(model: Model, prompt: str, labels: Sequence[str], written: Sequence[Continuation]) -> None:
    """Texts below one another with their measures; the first is the unsteered one."""
    scored = likelihood(model, [w.prompt_ids for w in written], [w.new_ids for w in written])
    made = table("", "text", "ppl x", "entropy", "edit", "dist-2", "loop", right=(2, 3, 4, 5, 6))
    for label, w, nll, entropy in zip(labels, written, scored.nll, scored.entropy, strict=True):
        made.add_row(
            label,
            Text(prompt, style="dim").append(w.text, style="default"),
            f"{perplexity_ratio([nll], [scored.nll[0]]):.2f}",
            f"{entropy:.2f}",
            f"{edit_distance(w.new_ids, written[0].new_ids):.2f}",
            f"{distinct_n(w.new_ids):.2f}",
            f"{loop_share(w.new_ids):.2f}",
        )
    out.print(made)
    for line in (
        "ppl x: perplexity under the unsteered model over that of the unsteered text;",
        "entropy: of its next token, in nats; edit: share of tokens changed from the unsteered text;",
        "dist-2: distinct token pairs; loop: share of the text that is one loop.",
        "The random direction has the same length.",
    ):
        say_line(line)


# -------- console_check
# What `lens-emotion check` prints: every law, how far it was missed, and what to do about a broken one.


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


# -------- console_drift
# What `lens-emotion drift` prints: one model read in two precisions, emotion by emotion, beside the reliability.


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


# -------- console_play
# What `lens-emotion play` prints while it loads and serves.


def play_and_print(
    name: str, vectors: Path | None, port: int, browser: bool, backend: str, dtype: str, device: str | None
) -> None:
    """Load a model and its vectors, serve the page on this machine, and open a browser unless told not to."""
    started = time.monotonic()
    opened = open_port(port)
    model = load_model(name, backend=backend, dtype=dtype, device=device)
    session = open_session(model, vectors, say=say_line)
    url = f"http://{HOST}:{opened.getsockname()[1]}/"

    def ready() -> None:
        say_line(f"[bold]{session.info.name}[/] is at [bold]{url}[/] ({time.monotonic() - started:.0f} s; Ctrl+C ends)")
        if browser:
            webbrowser.open(url)

    with suppress(KeyboardInterrupt):
        serve(session, opened, ready)
    say_line("ended")
