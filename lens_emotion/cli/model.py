"""The commands that load one model: extract, steer, drift, check, play; and the catalog of those known by name."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lens_emotion.cli.say import printable, say_line, say_prose, say_table, table
from lens_emotion.errors import (
    ArtifactError,
    DoseError,
    StimulusError,
    UnknownModelError,
    UnsupportedModelError,
    need_extra,
)

if TYPE_CHECKING:
    from lens_emotion.extraction.activations import PooledActivations
    from lens_emotion.laws.check import CheckReport
    from lens_emotion.models.access import Model
    from lens_emotion.steering.generate import Continuation
    from lens_emotion.steering.hooks import Centre
    from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors, Terms


# options that several commands share; typer reads these annotations at run time
def _model_names(begun: str) -> list[str]:
    """Names of the catalog, for a shell that completes one."""
    from lens_emotion.models.catalog import CATALOG

    return [spec.name for spec in CATALOG if spec.name.startswith(begun)]


def _emotion_names(begun: str) -> list[str]:
    from lens_emotion.stimuli.emotions import EMOTIONS

    return [name for name in EMOTIONS if name.startswith(begun)]


ModelName = Annotated[
    str, typer.Argument(help="Name, hub id, folder or .gguf file.", autocompletion=_model_names, show_default=False)
]
Backend = Annotated[str, typer.Option(help="auto, bridge or hooked (HookedTransformer, TransformerLens 3.x).")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps, or auto: over every GPU; default the best there is.")]
Quantise = Annotated[str | None, typer.Option(help="8bit or 4bit, through bitsandbytes.")]
Stimuli = Annotated[
    str | None,
    typer.Option(help="passages, world-en, world-en-zh or a TOML or JSON file; default the model's own set."),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that another command wrote.")]

PROMPT, CHAT_PROMPT = "The door opened and", "Tell me about your day."
MODEL_FACTS = ("family", "kind", "size", "layers", "width", "paper")
METHODS = ("comprehension", "generation", "jeong")
VERDICTS = {True: ("holds", "green"), False: ("BROKEN", "bold red")}


def models(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Show hub ids, and leave out what is shown without.")] = False,
) -> None:
    """List the models known by name (any other hub id or folder works too)."""
    from lens_emotion.models.catalog import CATALOG

    rows = [s for s in CATALOG if family in (None, s.family)]
    if not rows:
        families = ", ".join(dict.fromkeys(s.family for s in CATALOG))
        raise UnknownModelError(f"no family '{family}'; the catalog has {families}")
    numbers = (1, 2) if hub else (3, 4, 5)
    made = table("name", *(("size", "layers", "hub id") if hub else MODEL_FACTS), right=numbers)
    for s in rows:
        size = f"{s.millions / 1000:.1f}B" if s.millions >= 1000 else f"{s.millions:g}M"
        told = (s.hub_id or "in the package",) if hub else (str(s.d_model), s.paper)
        made.add_row(f"{s.name}{'*' * s.gated}", *(() if hub else (s.family, s.kind)), size, str(s.n_layers), *told)
    say_table(made)
    say_prose("* gated: accept its licence on the hub first. paper: used in arXiv 2604.04064 (named or inferred).")
    say_prose("Any other hub id, Hugging Face folder or .gguf file works too.")


def extract(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="Folder for activations and vectors.")] = Path("extracted"),
    method: Annotated[str, typer.Option(help="comprehension, generation or jeong.")] = "comprehension",
    recipe: Annotated[
        str | None,
        typer.Option(help="centred, neutral or neutral_pca; default: vectors by centred, separation by neutral."),
    ] = None,
    stimuli: Stimuli = None,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
    quantise: Quantise = None,
    overwrite: Overwrite = False,
) -> None:
    """Read a model once; save activations of every layer and emotion vectors, and say whether they hold."""
    from lens_emotion.analysis.separation import separation
    from lens_emotion.extraction.comprehension import extract_comprehension
    from lens_emotion.extraction.generation import extract_generation
    from lens_emotion.files.artifacts import check_mine, ensure_writable
    from lens_emotion.models.access import describe
    from lens_emotion.models.loading import load_model, resolve
    from lens_emotion.run.store import MANIFEST
    from lens_emotion.stimuli.library import load_stimuli
    from lens_emotion.vectors.recipes import emotion_vectors, recipe_steps

    if method not in METHODS:
        raise StimulusError(f"unknown method '{method}'; use comprehension, generation or jeong")
    by = recipe or "centred"
    recipe_steps(by)
    facts = {"model": resolve(model).label}
    if stimuli is not None:  # a fault in it is said before the model is loaded
        texts = load_stimuli(stimuli)
        facts |= {"stimuli": texts.name, "stimuli_sha256": texts.sha256} if method == "comprehension" else {}
    files = {"PooledActivations": out / f"{method}.safetensors", "EmotionVectors": out / f"{method}_{by}.safetensors"}
    if (out / MANIFEST).is_file():
        raise ArtifactError(f"{out} is a run folder, in which nothing but its study writes; give another --out")
    for kind, path in files.items():
        check_mine(path, kind, facts, overwrite)
    ensure_writable(out)
    loaded = load_model(model, backend=backend, dtype=dtype, device=device, quantise=quantise)
    for kind, path in files.items():  # also another model of the same name
        check_mine(path, kind, facts | {"fingerprint": describe(loaded).fingerprint}, overwrite)
    if method == "comprehension":
        acts = extract_comprehension(loaded, stimuli)
    else:
        preset = "jeong" if method == "jeong" else "topic-crossed"
        acts = extract_generation(loaded, preset=preset, stimuli=stimuli).conditioned
    vectors = emotion_vectors(acts, by)
    say_prose(str(acts))
    say_prose(separation(acts, recipe).summary())
    for note in acts.header.notes:
        say_prose(f"note: {note}")
    say_line(f"activations: {acts.save(files['PooledActivations'], overwrite)}")
    say_line(f"vectors:     {vectors.save(files['EmotionVectors'], overwrite)}")


def steer(
    model: ModelName,
    emotion: Annotated[
        str,
        typer.Argument(
            help="One of the vectors' emotions, or a mixture: '0.5*calm - 0.3*angry'.", autocompletion=_emotion_names
        ),
    ],
    prompt: Annotated[
        str | None, typer.Option(help="Text to continue, or with --chat to answer; default 'The door opened and'.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    dose: Annotated[float, typer.Option(help="How far, in the unit given.")] = 3.0,
    unit: Annotated[str, typer.Option(help="natural or relative.")] = "natural",
    layer: Annotated[
        str | None, typer.Option(help="A layer, a band such as 10-20, or all; default the middle one.")
    ] = None,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="The same as --layer all.")] = False,
    positions: Annotated[str, typer.Option(help="all, generated or prompt.")] = "all",
    mode: Annotated[str, typer.Option(help="add, ablate (dose 1 projects out) or clamp.")] = "add",
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vector file of this model; default: of its texts, read once (see runs/readings)."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, max=100_000, help="New tokens.")] = 40,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of sampling and of the random control.")] = 0,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Print unsteered, steered and randomly pushed text side by side, with measures."""
    from lens_emotion.models.access import describe
    from lens_emotion.models.forward import check_count
    from lens_emotion.models.layers import layers_in_words, resolve_layers
    from lens_emotion.models.loading import load_model
    from lens_emotion.models.sampling import Sampling
    from lens_emotion.models.templates import chat_prompt, has_chat_template
    from lens_emotion.steering.dose import Dose
    from lens_emotion.steering.generate import Condition, generate_steered
    from lens_emotion.steering.hooks import check_mode, check_positions
    from lens_emotion.vectors.emotion_vectors import EmotionVectors, parse_mixture, random_like

    amount, sampling = Dose(dose, unit), Sampling(temperature, 0.95, seed)
    if layer is not None and all_layers:
        raise DoseError(f"--layer {layer} and --all-layers are two answers to one question; give one of them")
    check_mode(mode, amount)
    check_count("--tokens", tokens)
    check_positions(positions)
    asked = "all" if all_layers else layer
    known = EmotionVectors.load(vectors) if vectors else None
    terms = parse_mixture(emotion, known.emotions if known else ())
    _check_terms(terms, known, model, asked)
    loaded = load_model(model, backend=backend, dtype=dtype, device=device)
    name = describe(loaded).name
    if chat and not has_chat_template(loaded):
        raise StimulusError(f"{name} has no chat template (a base model?); leave out --chat, or give an instruct model")
    chosen = resolve_layers(asked, describe(loaded).n_layers)
    known, vector, centre = _vector_for(loaded, known, terms, mode)
    vector.check_layers(chosen)
    said = prompt if prompt is not None else CHAT_PROMPT if chat else PROMPT
    prompt = chat_prompt(loaded, said) if chat else said
    control = random_like(known, vector, seed)
    steered = [Condition(prompt, v, amount, mode=mode, centre=centre) for v in (vector, control)]
    written = generate_steered(
        loaded, [Condition(prompt), *steered], chosen, max_new_tokens=tokens, sampling=sampling, positions=positions
    )
    natural, relative = amount.in_units(vector, chosen[len(chosen) // 2])
    where = f"{layers_in_words(chosen, known.n_layers)} of {known.n_layers}, positions {positions}"
    far = f"dose {natural:.2f} natural = {relative:.3f} of the mean residual norm"
    say_prose((name, "bold"), f", {mode} {vector.name}, {where}: {far}")
    _print_texts(loaded, said + "\n" * chat, ("unsteered", vector.name, "random direction"), written)


def _check_terms(terms: Terms, known: EmotionVectors | None, model: str, layers: str | None) -> None:
    """An emotion, layer or direction that is not to be had is said before the model is loaded, as far as that goes."""
    from lens_emotion.models.catalog import find_spec
    from lens_emotion.models.layers import resolve_layers
    from lens_emotion.stimuli.library import load_stimuli
    from lens_emotion.vectors.emotion_vectors import mixture

    if known is not None:
        mixture(known, terms).check_layers(resolve_layers(layers, known.n_layers))
    elif (spec := find_spec(model)) is not None:  # the texts of a model in the catalog are known without it
        load_stimuli(spec.stimuli).only(emotions=tuple(name for _, name in terms))


def _vector_for(
    loaded: Model, known: EmotionVectors | None, terms: Terms, mode: str
) -> tuple[EmotionVectors, EmotionVector, Centre]:
    """The vectors given, or those of the model's own texts; the mixture; and what a clamp counts from."""
    from lens_emotion.extraction.activations import check_made_on
    from lens_emotion.models.access import describe
    from lens_emotion.steering.hooks import projection_centre
    from lens_emotion.vectors.emotion_vectors import mixture
    from lens_emotion.vectors.recipes import emotion_vectors

    if known is not None:
        check_made_on(describe(loaded), known.header, may_allow=False)
        return known, mixture(known, terms), 0.0
    acts = _read_for(loaded, terms)
    known = emotion_vectors(acts)
    vector = mixture(known, terms)
    return known, vector, projection_centre(acts, vector) if mode == "clamp" else 0.0  # from the mean of all emotions


def _read_for(loaded: Model, terms: Terms) -> PooledActivations:
    """The model's own texts, read now or earlier; an emotion of the mixture that they lack is said before."""
    from lens_emotion.extraction.comprehension import default_stimuli
    from lens_emotion.extraction.kept import own_reading
    from lens_emotion.stimuli.library import load_stimuli

    texts = load_stimuli(default_stimuli(loaded))
    texts.only(emotions=tuple(emotion for _, emotion in terms))
    return own_reading(loaded, say=say_line)


def _print_texts(model: Model, prompt: str, labels: Sequence[str], written: Sequence[Continuation]) -> None:
    """Texts below one another with their measures; the first is the unsteered one."""
    from lens_emotion.steering.measures import distinct_n, edit_distance, likelihood, loop_share, perplexity_ratio

    scored = likelihood(model, [w.prompt_ids for w in written], [w.new_ids for w in written])
    made = table("", "text", "ppl x", "entropy", "edit", "dist-2", "loop", right=(2, 3, 4, 5, 6), prose=(1,))
    for label, w, nll, entropy in zip(labels, written, scored.nll, scored.entropy, strict=True):
        made.add_row(
            label,
            Text(prompt, style="dim").append(printable(w.text), style="default"),
            f"{perplexity_ratio([nll], [scored.nll[0]]):.2f}",
            f"{entropy:.2f}",
            f"{edit_distance(w.new_ids, written[0].new_ids):.2f}",
            f"{distinct_n(w.new_ids):.2f}",
            f"{loop_share(w.new_ids):.2f}",
        )
    say_table(made)
    say_prose(
        "ppl x: perplexity under the unsteered model over that of the unsteered text; entropy: of its next token, in "
        "nats; edit: share of tokens changed from the unsteered text; dist-2: distinct token pairs; loop: share of the "
        "text that is one loop. The random direction has the same length."
    )


def check(
    model: ModelName,
    vectors: Annotated[
        Path | None, typer.Option(help="Vector file of this model; default: made of the texts of the check.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Load it again, plain and on the other backend, and compare.")] = True,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Try the laws that every number rests on, on a model of your own. Exits with 1 if one is broken."""
    from lens_emotion.laws import check as laws
    from lens_emotion.progress import track
    from lens_emotion.vectors.emotion_vectors import EmotionVectors

    stored = EmotionVectors.load(vectors) if vectors else None
    tried = track(laws.LAWS, "trying laws", total=len(laws.LAWS))
    report = laws.check(model, vectors=stored, compare=compare, backend=backend, dtype=dtype, device=device, laws=tried)
    print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def print_report(report: CheckReport) -> None:
    """The table, then a paragraph for each law that is broken or was not tried."""
    made = table("law", "deviation", "tolerance", "verdict", right=(1, 2), prose=(0,))
    for r in report.results:
        word, style = ("not tried", "dim") if r.skipped else VERDICTS[r.passed]
        form = ".1e" if r.unit == "relative" else "g"
        numbers = ("", "") if r.skipped else (f"{r.deviation:{form}}", f"{r.tolerance:{form}}")
        made.add_row(Text(r.law), *numbers, Text(word, style=style))
    say_table(made)
    for r in report.results:
        if r.skipped:
            say_prose(Text(f"not tried: {r.law}: {r.skipped}", style="dim"))
        elif not r.passed:
            seen = f" ({r.note})" if r.note else ""
            say_prose(Text(f"broken: {r.law}{seen}: ", style="red").append(r.meaning, style="default"))
    if report.half_precision:
        say_prose(f"{report.info.dtype}: rounding alone may move or lose a massive activation; see --dtype float32.")
    say_prose("deviation: largest share of a state's length; 0 against 0 means equal to the bit.")
    say_prose(f"{report.summary()} ({report.seconds:.0f} s)")


def drift(
    model: ModelName,
    dtype: Annotated[str, typer.Option(help="Precision to try: bfloat16, float16 or float32.")] = "bfloat16",
    against: Annotated[str, typer.Option(help="Precision to compare with.")] = "float32",
    quantise: Quantise = None,
    stimuli: Stimuli = None,
    backend: Backend = "auto",
    device: Device = None,
) -> None:
    """Read a model in two precisions: the cosine of both vectors for each emotion, beside their reliability."""
    from lens_emotion.analysis.drift import drift as compared
    from lens_emotion.extraction.comprehension import extract_comprehension
    from lens_emotion.models.loading import load_model
    from lens_emotion.models.placement import check_quantise, choose_device, choose_dtype
    from lens_emotion.stimuli.library import load_stimuli

    place = choose_device(device)  # the second precision is needed only when the first has been read
    if len({choose_dtype(precision, place, "") for precision in (dtype, against)}) == 1 and quantise is None:
        same = f", which is {against} on {place}" * (dtype != against)
        raise UnsupportedModelError(f"{dtype} against {against}{same}: give two precisions, such as --dtype bfloat16")
    check_quantise(quantise)
    if stimuli:
        load_stimuli(stimuli)

    def read(precision: str, width: str | None) -> PooledActivations:  # one model in memory at a time
        loaded = load_model(model, backend=backend, dtype=precision, device=device, quantise=width)
        return extract_comprehension(loaded, stimuli)

    rounded = read(dtype, quantise)  # first, since it is the one that may be refused
    exact = read(against, None)
    other_weights = quantise is not None or "float16" in (dtype, against)
    found = compared(exact, rounded, allow_other_weights=other_weights)
    made = table("emotion", "cosine", "reliability", "smallest", "at layer", "reliability there", right=(1, 2, 3, 4, 5))
    for row in found.by_emotion.itertuples():
        made.add_row(
            str(row.emotion),
            f"{row.cosine:.6f}",
            f"{row.reliability:.2f}",
            f"{row.cosine_min:.6f}",
            str(row.layer_min),
            f"{row.reliability_min:.2f}",
        )
    say_table(made)
    say_prose(
        f"cosine: between the vectors of both readings, at layer {len(found.by_layer) // 2}, the middle one; smallest: "
        "over all layers; reliability: split-half cosine of the first reading's vector, how well the texts themselves "
        "fix it."
    )
    say_prose(found.summary())


def play(
    model: ModelName,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vector file of this model; default: of its texts, read once (see runs/readings)."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes any that is free.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Steer live in a local page: text side by side as it is written, regimes, token scores."""
    need_extra("play", "the playground", "starlette", "uvicorn")
    from lens_emotion.models.loading import load_model
    from lens_emotion.play.launch import HOST, open_port, open_session, serve
    from lens_emotion.vectors.emotion_vectors import EmotionVectors

    started = time.monotonic()
    if vectors:
        EmotionVectors.load(vectors)  # a fault in it is said before the model is loaded
    opened = open_port(port)
    session = open_session(load_model(model, backend=backend, dtype=dtype, device=device), vectors, say=say_line)
    url = f"http://{HOST}:{opened.getsockname()[1]}/"

    def ready() -> None:
        took = f" ({time.monotonic() - started:.0f} s; Ctrl+C ends)"
        say_line((session.info.name, "bold"), " is at ", (url, "bold"), took)
        if browser:
            webbrowser.open(url)

    with suppress(KeyboardInterrupt):
        serve(session, opened, ready)
    say_line("ended")
