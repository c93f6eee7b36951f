"""From a study's results to the page: which findings, figures and tables stand where. Nothing is computed here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.extraction.activations import Header
from lens_emotion.report.cells import text_cells
from lens_emotion.report.page import write_report
from lens_emotion.report.parts import (
    Cell,
    ClaimRow,
    Finding,
    LayerSlider,
    LayerStop,
    ModelReport,
    RunReport,
    Section,
    TextPair,
    Tone,
    Verdict,
)
from lens_emotion.run.store import Store
from lens_emotion.stats.tests import p_text
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.study.atlas import Atlas
from lens_emotion.study.results import MethodStudy, ModelStudy, StudyRun
from lens_emotion.study.tables import file_name
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, STATEMENTS, SUPPORTED, Claim

ALPHA = 0.05
Row = dict[str, object]


def build_report(run: StudyRun) -> tuple[Path, list[Row]]:
    """Draw all figures, write them and the page into the run folder; returns the page and the summary rows."""
    store = Store(Path(run.folder))
    rows = [summary_row(m) for m in run.models]
    page = RunReport(
        title="Emotion representations: " + ", ".join(m.info.name for m in run.models),
        created=str(run.manifest["created"]),
        command=portable(str(run.manifest["command"])),
        summary_rows=rows,
        models=tuple(model_report(m, store) for m in run.models),
        provenance=provenance(run),
        lead=(
            "Every number stands beside its null or control. Decoding is held out by topic; p-values come from label "
            "permutations and are corrected over layers where a best layer was picked."
        ),
        claims=claim_rows(run),
        claims_figure=plots.claims(run.claims),
        over_models=_alike(run),
    )
    path = store.save("report.html", lambda path: write_report(page, path))
    store.close()
    return path, rows


def _alike(run: StudyRun) -> Section | None:
    if run.alike is None:
        return None
    figure = ("Every two models: rho of the distances between emotions", plots.rsa_many(run.alike))
    tables = (("Every two models", run.alike.table.dropna(axis=1, how="all"), "tables/rsa.csv"),)
    return Section("Do the models agree?", run.alike.summary(), (figure,), tables)


def summary_row(m: ModelStudy) -> Row:
    """One line per model: reading, where, writing, the paper's preset, steering."""
    decoded = m.comprehension.decoding
    row: Row = {
        "model": Cell(m.info.name, note=f"{m.info.family}, {m.stimuli}"),
        "reads emotion": _decoding_cell(m.comprehension),
        "at depth": Cell(f"{m.comprehension.sweep.best_depth:.0%}", note=_interval(m)),
        "writes emotion": _decoding_cell(m.generation[-1]) if m.generation else Cell("not run"),
        "paper's preset": _jeong_cell(m),
        "steers": _steering_cell(m.steering),
    }
    assert decoded.n_texts > 0
    return row


def _interval(m: ModelStudy) -> str:
    low, high = m.comprehension.sweep.best_depth_low, m.comprehension.sweep.best_depth_high
    return "" if low is None or high is None else f"95% {low:.0%} to {high:.0%}"


def _decoding_cell(method: MethodStudy) -> Cell:
    best = method.decoding.table.iloc[method.decoding.best_layer]
    above = float(best.p_corrected) <= ALPHA
    return Cell(
        f"{best.accuracy:.2f}",
        "good" if above else "noise",
        f"chance {best.chance:.2f}, {p_text(float(best.p_corrected))}",
    )


def _jeong_cell(m: ModelStudy) -> Cell:
    if m.jeong is None:
        return Cell("not run")
    at = m.jeong.separation.table.iloc[m.jeong.layer]
    verdict = "above its null" if m.jeong.distinguishable else "noise"
    return Cell(
        f"cosine {at.mean_cosine:.2f}: {verdict}",
        "good" if m.jeong.distinguishable else "noise",
        f"decoding {at.accuracy:.2f}, chance {at.chance:.2f}",
    )


def _steering_cell(steering: DoseResponse | None) -> Cell:
    if steering is None:
        return Cell("not run")
    dose = steering.surgical_dose
    if dose is None:
        return Cell("no surgical dose", "noise")
    mine, control = steering.at(dose), steering.at(dose, "random")
    return Cell(
        f"{mine.success:.0f}/{mine.n:.0f} at dose {dose:g}",
        "good" if mine.success_low > control.success_high else "noise",
        f"random {control.success:.0f}/{control.n:.0f}, perplexity x{mine.perplexity_ratio:.2f}",
    )


def model_report(m: ModelStudy, store: Store) -> ModelReport:
    """The card of one model; its figures are also written into its folder."""
    folder = store.model(m.info.name)
    return ModelReport(
        name=m.info.name,
        family=m.info.family,
        kind=m.kind,
        stimuli=m.stimuli,
        n_layers=m.info.n_layers,
        d_model=m.info.d_model,
        seconds=m.seconds,
        findings=tuple(findings(m)),
        sections=tuple(_sections(m, folder)),
    )


def _verdict(above: bool) -> Verdict:
    return "above its null" if above else "not distinguishable from noise"


def findings(m: ModelStudy) -> list[Finding]:
    """What a busy reader takes away, each with its control."""
    found = [_method_finding(method) for method in m.methods]
    if m.jeong:
        at = m.jeong.separation.table.iloc[m.jeong.layer]
        found.append(
            Finding(
                "the paper's generation preset, middle token",
                f"mean pairwise cosine {at.mean_cosine:.2f} at layer {m.jeong.layer}",
                f"permuted labels {at.null_low:.2f} to {at.null_high:.2f}; decoding {at.accuracy:.2f}, "
                f"chance {at.chance:.2f}",
                _verdict(m.jeong.distinguishable),
                m.jeong.separation.summary(m.jeong.layer) + " " + "; ".join(m.jeong.header.notes),
            )
        )
    if m.steering:
        found.append(_steering_finding(m.steering))
    found.append(
        Finding(
            "anisotropy of neutral text",
            _anisotropy_value(m),
            "same texts centred, and random directions of the same covariance, in the figure",
            "reported",
            m.anisotropy.summary(),
        )
    )
    return found


def _method_finding(method: MethodStudy) -> Finding:
    best = method.decoding.table.iloc[method.decoding.best_layer]
    notes = "; ".join(method.header.notes)
    return Finding(
        f"{method.name}: held-out decoding, {len(method.decoding.emotions)} emotions",
        f"{best.accuracy:.2f} at depth {best.depth:.0%}",
        f"chance {best.chance:.2f}, permuted labels {best.null_low:.2f} to {best.null_high:.2f}, "
        f"{p_text(float(best.p_corrected))}",
        _verdict(float(best.p_corrected) <= ALPHA),
        method.decoding.summary() + (f" Note: {notes}." if notes else ""),
    )


def _steering_finding(steering: DoseResponse) -> Finding:
    dose = steering.surgical_dose
    if dose is None:
        return Finding("steering", "no surgical dose", steering.judge, _verdict(False), steering.summary())
    mine, control = steering.at(dose), steering.at(dose, "random")
    return Finding(
        f"steering at dose {dose:g} natural ({mine.dose_relative:.2g} relative), layer {steering.layer}",
        f"{mine.success:.0f}/{mine.n:.0f} scenarios, perplexity ratio {mine.perplexity_ratio:.2f}",
        f"random directions {control.success:.0f}/{control.n:.0f}, perplexity ratio {control.perplexity_ratio:.2f}",
        _verdict(bool(mine.success_low > control.success_high)),
        steering.summary(),
    )


def _anisotropy_value(m: ModelStudy) -> str:
    raw = m.anisotropy.table.neutral_raw
    return f"mean cosine {raw.min():.2f} to {raw.max():.2f} over layers"


def _sections(m: ModelStudy, folder: Store) -> list[Section]:
    draw = _Drawer(folder)
    where = f"{folder.root.name}/tables"
    reliable = m.comprehension.reliability
    draw("similarity", plots.similarity(m.similarity))  # the page has them of every layer
    if not isinstance(m.circumplex, str):
        draw("circumplex", plots.circumplex(m.circumplex))
    sections = [
        Section(
            "Where emotion can be read",
            "Held-out decoding at every layer, folds by topic, with the band of permuted labels.",
            figures=tuple(
                (f"{x.name} ({x.n_texts} texts)", draw(f"layer_sweep_{file_name(x.name)}", plots.layer_sweep(x.sweep)))
                for x in m.methods
            ),
            tables=(
                (
                    "Decoding by layer, comprehension",
                    m.comprehension.decoding.table,
                    f"{where}/decoding_comprehension.csv",
                ),
            ),
            opened=True,
        ),
        Section(
            "Separation, and why it needs company",
            "Mean pairwise cosine between the unit vectors (lower looks better) with its permutation null, above the "
            "held-out decoding of the same states. The cosine alone proves nothing: noise lowers it too.",
            figures=tuple(_separation_figures(m, draw)),
            tables=(
                (
                    "Separation by layer, comprehension",
                    m.comprehension.separation.table,
                    f"{where}/separation_comprehension.csv",
                ),
            ),
        ),
        Section(
            "How firm the vectors are",
            reliable.summary(),
            figures=(
                ("Split-half reliability, comprehension", draw("reliability", plots.reliability(reliable))),
                ("Confusion at the best layer", draw("confusion", plots.confusion(m.comprehension.decoding))),
                ("Anisotropy of neutral text", draw("anisotropy", plots.anisotropy(m.anisotropy))),
            ),
        ),
    ]
    if m.versus:
        sections.insert(2, versus_section(m, draw, where))
    sections.insert(1, layers_section(m))
    sections.append(token_section(m, draw, where))
    if m.steering:
        sections.append(steering_section(m, draw, where))
    if m.leakage:
        sections.append(leakage_section(m, draw, where))
    return sections


def _separation_figures(m: ModelStudy, draw: _Drawer) -> list[tuple[str, go.Figure]]:
    shown = [(x.name, plots.separation(x.separation)) for x in m.methods[:1]]
    if m.jeong:
        shown.append(("the paper's generation preset", plots.separation(m.jeong.separation)))
    return [(name, draw(f"separation_{file_name(name).replace(chr(39), '')}", figure)) for name, figure in shown]


class _Drawer:
    """Writes a figure into the model's folder and hands it on."""

    def __init__(self, folder: Store) -> None:
        self.folder = folder

    def __call__(self, name: str, figure: go.Figure) -> go.Figure:
        self.folder.figure(name, figure)
        return figure


# -------- report_claims
# The claims of a run as rows of the report.


_TONES: dict[str, Tone] = {SUPPORTED: "good", NOT_SUPPORTED: "noise"}


def claim_rows(run: StudyRun) -> tuple[ClaimRow, ...]:
    """One row per claim: the verdict over all models, that of each, and the sentences."""
    overall = {c.code: c for c in run.claims.overall}
    rows = []
    for code in overall:
        per_model = {c.scope: c for c in run.claims.claims if c.code == code}
        cells = tuple(_cell(per_model[m.info.name]) if m.info.name in per_model else Cell("–") for m in run.models)
        sentences = tuple(dict.fromkeys([overall[code].sentence, *(c.sentence for c in per_model.values())]))
        reason = overall[code].reason
        whole = Cell(overall[code].verdict, _TONES.get(overall[code].verdict, "plain"), reason)
        known = overall[code].effect
        effect = str(known) if known is not None and math.isfinite(known.value) else ""
        row = (code, STATEMENTS[code], whole, cells, sentences, effect, overall[code].null, overall[code].n)
        rows.append(ClaimRow(*row))
    return tuple(rows)


def _cell(claim: Claim) -> Cell:
    """Verdict, and under it the effect beside what it is read against; the reason where there is no effect."""
    shown = claim.effect is not None and math.isfinite(claim.effect.value)
    note = (
        f"{claim.effect}; against {claim.null}"
        if shown and claim.null
        else str(claim.effect)
        if shown
        else claim.reason
    )
    return Cell(claim.verdict, _TONES.get(claim.verdict, "plain"), "" if claim.verdict == NOT_TESTABLE else note)


# -------- report_layers
# The section that a layer slider drives: who is like whom, the main axes, and texts token by token.


def layers_section(m: ModelStudy) -> Section:
    """Similarity, circumplex and two texts at every layer, beginning at the best layer of held-out decoding."""
    best = m.comprehension.decoding.best_layer
    rated = f"No circumplex: {m.circumplex}." if isinstance(m.circumplex, str) else m.circumplex.summary()
    text = (
        f"Move the slider: all figures go to that layer. It begins at layer {best}, where held-out decoding of the "
        f"texts read is best.\n\n{m.similarity.summary()} {rated} p-values in these figures are "
        "of one layer alone: to slide until one is small is to search."
    )
    slider = LayerSlider(tuple(_stops(m)), best, "held-out decoding accuracy, comprehension", _figures(m.atlas))
    return Section("Layer by layer", text, layers=slider, opened=True)


def _stops(m: ModelStudy) -> list[LayerStop]:
    decoding = m.comprehension.decoding
    rows = decoding.table.to_dict("records")
    return [
        LayerStop(
            f"layer {i} (depth {r['depth']:.2f}): held-out accuracy {r['accuracy']:.2f}, permuted labels "
            f"{r['null_low']:.2f} to {r['null_high']:.2f}{', the best layer' * (i == decoding.best_layer)}",
            float(r["accuracy"]),
            float(r["null_high"]),
        )
        for i, r in enumerate(rows)
    ]


def _figures(atlas: Atlas) -> tuple[tuple[str, tuple], ...]:
    found = [
        ("Cosines between the emotion vectors", tuple(plots.similarity(s) for s in atlas.similarity.layers)),
    ]
    if atlas.circumplex:
        found.append(("Principal components beside human norms", tuple(plots.circumplex(c) for c in atlas.circumplex)))
    for text in atlas.texts:
        caption = (
            f"The opening of a text written to be {text.emotion} (topic: {text.topic}), token by token. "
            "Vectors and random directions are made of texts of the other topics."
        )
        found.append((caption, tuple(plots.token_scores(s) for s in text.scores)))
    return tuple(found)


# -------- report_provenance
# What it takes to make a run again, in words that hold on any machine: no folder of ours, no clock.


_FOLDERS = re.compile(r"(?<![\w.~/\\:])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?:[^\s'\"\\/]+[\\/])+")


def portable(text: str) -> str:
    """A command or setting with the folders of absolute paths cut away: only the last name of each stays."""
    return _FOLDERS.sub("", text)


def provenance(run: StudyRun) -> dict[str, object]:
    """Command, settings, versions, and of every model its fingerprint and how each kind of text was read."""
    facts: dict[str, Any] = {k: _portable(v) for k, v in run.manifest.items() if k not in ("models", "seconds")}
    return facts | {f"model {m.info.name}": _of_model(m) for m in run.models}


def _portable(value: Any) -> Any:
    if isinstance(value, str):
        return portable(value)
    if isinstance(value, dict):
        return {k: _portable(v) for k, v in value.items()}
    return [_portable(v) for v in value] if isinstance(value, list | tuple) else value


def _of_model(m: ModelStudy) -> dict[str, Any]:
    info = m.info
    facts: dict[str, Any] = {name: getattr(info, name) for name in ("fingerprint", "backend", "dtype")}
    facts |= {"layers": info.n_layers, "dimensions": info.d_model, "judge": m.judge}
    headers = {x.name: x.header for x in m.methods} | {"the paper's reading": m.jeong_reading.header}
    if m.jeong:
        headers["the paper's writing"] = m.jeong.header
    return facts | {name: _of_header(header) for name, header in headers.items()}


def _of_header(header: Header) -> dict[str, Any]:
    kept = ("variant", "pooling", "stimuli", "stimuli_sha256", "seed", "recipe", "notes")
    return {name: _portable(value) for name in kept if (value := getattr(header, name)) not in ("", None, ())}


# -------- report_sections
# Sections of a model's card: writing against reading, tokens, steering, other languages.


Draw = Callable[[str, go.Figure], go.Figure]

_OVERALL = [
    *("test", "measure", "unit", "n", "a", "b", "difference", "estimate"),
    *("low", "high", "p", "effect", "d", "warning"),
]


def versus_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """Writing against reading, paired; beside it the paper's unpaired test of its presets."""
    assert m.versus is not None
    text = m.versus.summary()
    tables = [("Over layers: a is writing, b is reading", m.versus.overall[_OVERALL], f"{where}/versus.csv")]
    figures = [("Writing and reading, held-out decoding", draw("versus", plots.compare(m.versus)))]
    if m.versus_preset:
        figures.append(("The paper's presets, mean cosine", draw("versus_preset", plots.compare(m.versus_preset))))
        text += (
            f"\n\nThe paper's presets: {m.versus_preset.summary()} Its own test is unpaired and takes layers as "
            "independent, which they are not; it is shown for comparison."
        )
        tables.append(("The paper's presets", m.versus_preset.overall[_OVERALL], f"{where}/versus_preset.csv"))
    return Section(
        "Writing against reading",
        text,
        figures=tuple(figures),
        tables=tuple(tables),
    )


def token_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """The logit lens of every vector: words, and their scripts against random directions."""
    rows = m.lens.table[(m.lens.table.side == "up") & (m.lens.table["rank"] <= 6)]
    words = rows.groupby("emotion", sort=False)["token"].apply(lambda tokens: "  ".join(map(str, tokens)))
    return Section(
        "Which tokens the vectors bring out",
        f"{m.lens.summary()} The tokens are read off the unembedding, without generating.",
        figures=(("Tokens that every vector brings out, and their scripts", draw("lens", plots.lens(m.lens))),),
        tables=(("Top tokens", words.rename("tokens").reset_index(), f"{where}/lens.csv"),),
    )


def leakage_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """Foreign letters in the steered texts."""
    assert m.leakage is not None
    tables = [("Foreign letters by dose", m.leakage.table, f"{where}/leakage.csv")]
    if m.leakage.words is not None and (m.leakage.words.target > 0).any():
        tables.append(("Chinese words of the emotion by dose", m.leakage.words, f"{where}/leakage_words.csv"))
    figure = draw("leakage", plots.leakage(m.leakage))
    shown = (("Letters of other scripts in steered texts", figure),)
    return Section("Other languages", f"{m.leakage.summary()}.", figures=shown, tables=tuple(tables))


def steering_section(m: ModelStudy, draw: Draw, where: str) -> Section:
    """Dose and response, the texts behind every cell, and what else steering moves."""
    steering = m.steering
    assert steering is not None
    figures = [("Dose-response", draw("dose_response", plots.dose_response(steering)))]
    spill = ""
    if m.side_effects:
        figures.append(("Side effects at the surgical dose", draw("side_effects", plots.side_effects(m.side_effects))))
        spill = f"\n\nSide effects: {m.side_effects.summary()}."
    return Section(
        "Steering",
        f"{steering.summary()}. Success: the target's score rises above the unsteered text's and above the 95th "
        "percentile of random directions of the same length; a second set of random directions is the control shown."
        f"{spill}",
        figures=tuple(figures),
        cells=text_cells(steering),
        tables=(("Steering by dose", steering.table, f"{where}/steering.csv"),),
        pairs=tuple(_pairs(steering)),
    )


def _pairs(steering: DoseResponse, n: int = 8) -> list[TextPair]:
    """Steered beside unsteered and randomly pushed texts at the surgical dose (or the middle one)."""
    doses = sorted(steering.table.dose.unique())
    dose = steering.surgical_dose or doses[len(doses) // 2]
    texts = steering.texts[steering.texts.dose == dose]
    mine = texts[texts.condition == "emotion"]
    random = texts[texts.condition == "random"]
    control = dict(zip(random.scenario.tolist(), random.text.tolist(), strict=True))
    unsteered: dict[object, str] = dict(enumerate(steering.unsteered.text.tolist()))
    every = max(1, len(mine) // n)
    return [
        TextPair(
            prompt=str(row.prompt),
            unsteered=unsteered[row.scenario],
            steered=str(row.text),
            label=str(row.emotion),
            note=f"dose {dose:g}; perplexity ratio {row.perplexity_ratio:.2f}; judged {row.top_emotion}",
            control=control[row.scenario],
        )
        for row in list(mine.itertuples())[::every][:n]
    ]
