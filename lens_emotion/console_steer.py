"""What `lens-emotion steer` prints: unsteered, steered and randomly pushed text side by side, with measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from lens_emotion.console import out, say_line, table
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.models.access import Model, describe
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.loading import load_model
from lens_emotion.steering.dose import Dose, layers_in_words, resolve_layers
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.interventions import Centre, projection_centre
from lens_emotion.steering.measures import distinct_n, edit_distance, likelihood, loop_share, perplexity_ratio
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.mixture import mixture, parse_mixture, random_like
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
