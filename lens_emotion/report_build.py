"""From a study's results to the page: which findings, figures and tables stand where. Nothing is computed here."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.analysis.results import p_text
from lens_emotion.report import write_report
from lens_emotion.report_claims import claim_rows
from lens_emotion.report_layers import layers_section
from lens_emotion.report_parts import Cell, Finding, ModelReport, RunReport, Section, Verdict
from lens_emotion.report_provenance import portable, provenance
from lens_emotion.report_sections import leakage_section, steering_section, token_section, versus_section
from lens_emotion.steering.experiment import DoseResponse
from lens_emotion.study.results import MethodStudy, ModelStudy, StudyRun
from lens_emotion.study.store import Store
from lens_emotion.study.tables import file_name

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
