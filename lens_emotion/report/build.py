"""From a study's results to its page: the summary, the paper's claims, a card per model, and what it takes to make the
run again. Nothing is computed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.analysis.mixed import Mixed
from lens_emotion.audits.audit import audit
from lens_emotion.display import Brief
from lens_emotion.presets.numbers import NOT_HERE
from lens_emotion.presets.protocol import MIDDLE
from lens_emotion.report.audit_section import audit_section
from lens_emotion.report.headline import alike, floored, headline, level
from lens_emotion.report.page import with_figures_embedded, write_report
from lens_emotion.report.parts import (
    Bar,
    Cell,
    ClaimRow,
    Finding,
    ModelReport,
    RunReport,
    Section,
    Table,
    Tone,
    Verdict,
)
from lens_emotion.report.sections import sections
from lens_emotion.run.config import PRESET, WRITING
from lens_emotion.run.store import Store
from lens_emotion.stats.tests import p_text
from lens_emotion.steering.dose_result import NO_HEADLINE, DoseResponse
from lens_emotion.study.beside import Chain, Crew, Stage
from lens_emotion.study.claims.smallest import SMALLEST
from lens_emotion.study.methods import methods_text
from lens_emotion.study.results import MethodStudy, ModelStudy, StudyRun
from lens_emotion.study.steps import Say, silent
from lens_emotion.study.verdict import (
    ALL_MODELS,
    EXPLORATORY,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    STATEMENTS,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Claims,
    Protocols,
)

ALPHA = 0.05
Row = dict[str, object]


def build_report(
    run: StudyRun, shared: Crew | None = None, begun: Mapping[str, Chain] = MappingProxyType({})
) -> tuple[Path, list[Row]]:
    """Draw all figures, write them and the page into the run folder; returns the page and the summary rows.

    Args:
        shared: processes that draw some of the models' figures; None draws all here.
        begun: name -> what `begin_card` gave, of models whose figures are being drawn already.
    """
    store = Store(Path(run.folder))
    crew = shared or Crew()
    cards = [begun.get(m.info.name) or begin_card(m, store, crew) for m in run.models]
    (audited,) = crew.results(crew.begin(run.folder, (AUDIT,), silent))  # made while others draw
    drawn: list[Card] = [crew.results(card)[0] for card in cards]
    for m, card in zip(run.models, drawn, strict=True):
        for name, plotly_json in card.figures.items():
            store.model(m.info.name).figure(name, plotly_json)
    rows = [summary_row(m) for m in run.models]
    over_models = [protocols_section(run.protocols)] if run.protocols else []
    over_models += [mixed_section(run.mixed)] if run.mixed else []
    if run.alike is not None:
        figure = (
            "Every two models: rho of the distances between emotions",
            plots.rsa_many(run.alike),
            "tables/rsa.csv",
        )
        tables = (("Every two models", run.alike.table.dropna(axis=1, how="all"), "tables/rsa.csv"),)
        over_models.append(Section("Do the models agree?", run.alike.summary(), (figure,), tables))
    over_models.append(audit_section(audited))
    page = RunReport(
        title="Emotion representations: " + ", ".join(m.info.name for m in run.models),
        created=str(run.manifest["created"]),
        command=portable(str(run.manifest["command"])),
        summary_rows=rows,
        models=tuple(card.report for card in drawn),
        provenance=provenance(run),
        lead=(
            "Every number stands beside its null or control. Decoding is held out by topic; p-values come from label "
            "permutations and are corrected over layers where a best layer was picked."
        ),
        claims=claim_rows(run),
        claims_figure=plots.claims(run.claims),
        over_models=tuple(over_models),
        methods=methods_text(run),
        headline=headline(run),
        floors=tuple(1 / (n + 1) for n in _permutations(run)),
        seal=run.seal.line(most=len(run.seal.broken)),
        sealed="" if run.seal.status == EXPLORATORY else run.seal.status,
    )
    path = store.save("report.html", lambda path: write_report(page, path))
    store.close()
    return path, rows


def _permutations(run: StudyRun) -> set[int]:
    """The numbers of permutations behind this run's p-values: its own, and ten times as many for geometries."""
    own = {m.comprehension.decoding.n_permutations for m in run.models}
    return own | {10 * n for n in own}


def mixed_section(mixed: Mapping[str, Mixed]) -> Section:
    """Beside the claims: how much of each main outcome goes with emotion, topic and model."""
    lead = "Beside the claims, which do not rest on it: emotions, topics and models as samples of others, all at once. "
    tables = tuple((f"{m.outcome} (mixed effects)", m.table, f"tables/{name}.csv") for name, m in mixed.items())
    return Section(
        "What does the outcome go with?",
        lead + " ".join(f"{(s := m.summary())[0].upper()}{s[1:]}." for m in mixed.values()),
        (),
        tables,
    )


def protocols_section(found: Protocols) -> Section:
    """The claims by the published rules beside ours, over all models; each model's row is in the table behind it."""
    table, csv = found.table, "tables/protocols.csv"
    whole = table[table.scope == ALL_MODELS].drop(columns=["claim", "scope"])
    known = found.numbers[found.numbers.status != NOT_HERE]
    tables: list[Table] = [
        ("Over all models: the published rule, its number with the control it lacks, both verdicts", whole, csv),
        ("Every model", table[table.scope != ALL_MODELS].drop(columns=["claim", "rule", "inferred"]), csv),
    ]
    if len(known):
        tables.append(("Published numbers beside ours, same protocol", known, "tables/published_numbers.csv"))
    untested = len(found.numbers) - len(known)
    return Section(
        "The paper as published, beside ours",
        f"The same states and texts judged by the rules of arXiv 2604.04064, as far as they are public (what is "
        f"inferred stands beside each): {found.summary()}.\n\nOf {len(found.numbers)} published numbers {untested} are "
        "not testable here, most of them since their models are not in this run; a toy model cannot reproduce them.",
        (),
        tuple(tables),
    )


def summary_row(m: ModelStudy) -> Row:
    """One line per model: reading, where, writing, the paper's preset, steering."""
    return {
        "model": Cell(m.info.name, note=f"{m.info.family}, {m.stimuli}"),
        "reads emotion": _decoding_cell(m.comprehension),
        "at depth": _depth_cell(m.comprehension),
        "writes emotion": _decoding_cell(m.generation[-1]) if m.generation else _not_run(m, WRITING),
        "paper's preset": _jeong_cell(m),
        "steers": _steering_cell(m.steering),
    }


def _decoding_cell(method: MethodStudy) -> Cell:
    best = method.decoding.table.iloc[method.decoding.best_layer]
    p = float(best.p_corrected)
    if method.decoding.tied:
        return Cell("not testable", why="copies leave no text that was not also learnt")
    note, why = f"chance {best.chance:.2f}, {floored(p, method.decoding.n_permutations)}", _standardised(method)
    bar = Bar(float(best.accuracy), (0.0, float(best.null_high)))
    if hangs := method.decoding.hangs():
        return Cell(f"{best.accuracy:.2f}", "plain", f"{note}; it hangs on the decoder", f"{why}; {hangs}", bar)
    return Cell(f"{best.accuracy:.2f}", "good" if p <= ALPHA else "noise", note, why, bar)


def _depth_cell(method: MethodStudy) -> Cell:
    """Where reading is best, or that no layer is."""
    sweep = method.sweep
    low, high, tied = sweep.best_depth_low, sweep.best_depth_high, alike(sweep)
    interval = "" if low is None or high is None else f"95% {low:.0%} to {high:.0%}"
    other = "" if sweep.standardised is None else f"standardised {sweep.standardised.best_depth:.0%}"
    if level(sweep):
        first = f"first of the best at {sweep.best_depth:.0%}"
        return Cell("no best layer", note=tied, why="; ".join(filter(None, (first, interval, other))))
    why = "; ".join(filter(None, (tied, other)))
    return Cell(f"{sweep.best_depth:.0%}", note=interval, why=why, bar=Bar(sweep.best_depth, MIDDLE, low, high))


def _standardised(method: MethodStudy) -> str:
    """What the other decoder finds at its own best layer."""
    other = method.decoding.standardised
    if other is None:
        return ""
    best = other.table.iloc[other.best_layer]
    return f"standardised per dimension {best.accuracy:.2f}, {floored(float(best.p_corrected), other.n_permutations)}"


def _not_run(m: ModelStudy, part: str) -> Cell:
    return Cell("not testable", why=m.lacking[part]) if part in m.lacking else Cell("not run")


def _jeong_cell(m: ModelStudy) -> Cell:
    if m.jeong is None:
        return _not_run(m, PRESET)
    at = m.jeong.separation.table.iloc[m.jeong.layer]
    verdict = "above its null" if m.jeong.distinguishable else "noise" if m.jeong.testable else "not testable (copies)"
    return Cell(
        f"cosine {at.mean_cosine:.2f}: {verdict}",
        "good" if m.jeong.distinguishable else "noise" if m.jeong.testable else "plain",
        f"decoding {at.accuracy:.2f}, chance {at.chance:.2f}",
    )


def _steering_cell(steering: DoseResponse | None) -> Cell:
    if steering is None:
        return Cell("not run")
    if steering.silent:
        return Cell("not testable", "plain", why=steering.silent)
    found, spoilt = steering.headline, steering.spoilt.removeprefix("; ")
    if found is None:
        return Cell("no success rate", "plain", why=NO_HEADLINE)
    if not found.doses:
        rows = steering.table[steering.table.condition == "emotion"].sort_values("dose")
        path = " -> ".join(dict.fromkeys(rows.regime))  # as the dose grows
        return Cell("no surgical dose", "noise", path, spoilt)
    zone = 0.0, max(found.random, found.other or 0) / found.n
    why = "; ".join(filter(None, (f"{found.rate}; dose chosen on other openings: {found.told}", spoilt)))
    tone: Tone = "good" if found.beyond else "noise"
    bar = Bar(found.success / found.n, zone, found.low, found.high)
    return Cell(f"{found.success}/{found.n}", tone, found.controls, why, bar)


def model_report(m: ModelStudy, folder: str, keep: Callable[[str, go.Figure], object]) -> ModelReport:
    """The card of one model, whose tables lie in this folder of the run; `keep` is given each figure and its name."""
    return ModelReport(
        name=m.info.name,
        family=m.info.family,
        kind=m.kind,
        stimuli=m.stimuli,
        n_layers=m.info.n_layers,
        d_model=m.info.d_model,
        seconds=m.seconds,
        findings=tuple(findings(m)),
        sections=tuple(sections(m, folder, keep)),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Card(Brief):
    """A model's card as it stands in the page, and its figures: name -> plotly JSON."""

    report: ModelReport
    figures: dict[str, str]


def begin_card(m: ModelStudy, run: Store, shared: Crew) -> Chain:
    """The card of a model, drawn wherever somebody is free; `build_report` writes its figures."""
    return shared.begin((m, run.model(m.info.name).root.name), (CARD,), silent)


def _card(given: tuple[ModelStudy, str], say: Say) -> Card:
    figures: dict[str, str] = {}
    report = model_report(*given, lambda name, figure: figures.update({name: str(figure.to_json())}))
    return Card(with_figures_embedded(report), figures)


CARD = Stage(2, _card, lambda given: 0)
AUDIT = Stage(2, lambda folder, say: audit(folder), lambda folder: None)


def _verdict(above: bool, testable: bool = True) -> Verdict:
    return "above its null" if above else "not distinguishable from noise" if testable else "not testable"


def findings(m: ModelStudy) -> list[Finding]:
    """What a busy reader takes away, each with its control."""
    found = [_method_finding(method) for method in m.methods]
    if m.jeong:
        at = m.jeong.separation.table.iloc[m.jeong.layer]
        found.append(
            Finding(
                "the paper's preset for writing, middle token",
                f"mean pairwise cosine {at.mean_cosine:.2f} at layer {m.jeong.layer}",
                f"permuted labels {at.null_low:.2f} to {at.null_high:.2f}; decoding {at.accuracy:.2f}, "
                f"chance {at.chance:.2f}",
                _verdict(m.jeong.distinguishable, m.jeong.testable),
                m.jeong.separation.summary(m.jeong.layer) + " " + "; ".join(m.jeong.header.notes),
            )
        )
    found += [
        Finding(f"{part.replace('_', ', ')}: what the model wrote", "not testable", why, "reported")
        for part, why in m.lacking.items()
    ]
    if m.steering:
        found.append(_steering_finding(m.steering))
    raw = m.anisotropy.table.neutral_raw
    found.append(
        Finding(
            "anisotropy of neutral text",
            f"mean cosine {raw.min():.2f} to {raw.max():.2f} over layers",
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
        f"{best.accuracy:.2f} " + (f"({alike(method.sweep)})" if level(method.sweep) else f"at depth {best.depth:.0%}"),
        f"chance {best.chance:.2f}, permuted labels {best.null_low:.2f} to {best.null_high:.2f}, "
        + floored(float(best.p_corrected), method.decoding.n_permutations),
        _verdict(float(best.p_corrected) <= ALPHA and not method.decoding.tied, not method.decoding.tied)
        if not method.decoding.hangs()
        else "reported",
        method.decoding.summary() + (f" Note: {notes}." if notes else ""),
    )


def _steering_finding(steering: DoseResponse) -> Finding:
    found, said = steering.headline, steering.summary()
    if steering.silent:
        return Finding("steering", "not testable", steering.silent, "reported", said)
    if found is None:
        return Finding("steering", "no success rate", NO_HEADLINE, "not testable", said)
    if not found.doses:
        return Finding("steering", "no surgical dose", steering.judge, _verdict(False), said)
    return Finding(
        f"steering at layer {steering.layer}, dose chosen on other openings: {found.told}",
        f"{found.rate} scenarios succeed",
        f"{found.controls}, McNemar {p_text(found.p)}",
        _verdict(found.beyond),
        said,
    )


_TONES: dict[str, Tone] = {SUPPORTED: "good", NOT_SUPPORTED: "noise"}


def claim_rows(run: StudyRun) -> tuple[ClaimRow, ...]:
    """One row per claim: the verdict over all models, that of each, and the sentences."""
    rows = []
    for over in run.claims.overall:
        mark = "" if run.seal.status == EXPLORATORY else over.sealed
        per_model = {c.scope: c for c in run.claims.claims if c.code == over.code}
        cells = tuple(_cell(per_model[m.info.name]) if m.info.name in per_model else Cell("–") for m in run.models)
        sentences = tuple(dict.fromkeys([over.sentence, *(c.sentence for c in per_model.values())]))
        whole = Cell(over.verdict, _TONES.get(over.verdict, "plain"), over.reason)
        effect = str(over.effect) if over.effect is not None and math.isfinite(over.effect.value) else ""
        more = tuple(line for line in wanting(run.claims, over) if line not in over.reason)
        nulls = {c.null for c in per_model.values() if c is not over and c.null}
        null = nulls.pop() if len(nulls) == 1 else over.null.replace("in its row", "behind why")
        rows.append(
            ClaimRow(over.code, STATEMENTS[over.code], whole, cells, sentences, effect, null, over.n, more, mark)
        )
    return tuple(rows)


def wanting(claims: Claims, over: Claim) -> tuple[str, ...]:
    """Of a claim that is undetermined, what would have mattered, and what this design finds (in each model)."""
    if over.verdict != UNDETERMINED:
        return ()
    unit = f" ({SMALLEST[over.code].unit})" if over.code in SMALLEST else ""
    small = f"smallest effect of interest: {over.smallest:.2g}{unit}" if over.smallest else ""
    mine = [c for c in claims.claims if c.code == over.code and c.scope != over.scope and c.verdict == UNDETERMINED]
    found = [over.reach] if over.reach else _together([c for c in mine if c.reach])
    return tuple(line for line in (small, *found) if line)


def _together(claims: Sequence[Claim]) -> list[str]:
    """A line per model; one for all those of one reason whose design would have found enough."""
    by: dict[str, list[Claim]] = {}
    for c in claims:
        by.setdefault(c.reason if _found_enough(c) else _why(c), []).append(c)
    return [_line(of) for of in by.values()]


def _line(claims: Sequence[Claim]) -> str:
    names, first = ", ".join(c.scope for c in claims), claims[0]
    if len(claims) == 1 or not _found_enough(first):
        return f"{names}: {_why(first)}"
    found = max(c.rests_on.detectable for c in claims if c.rests_on)
    return f"{names}: {first.reason}; each finds an effect of {found:.2f} with power .8, less than would matter"


def _found_enough(claim: Claim) -> bool:
    return claim.rests_on is not None and claim.rests_on.detectable < (claim.smallest or 0.0)


def _why(claim: Claim) -> str:
    """Its reason and its reach: a design that would find enough may still not have been able to show it."""
    return claim.reason if claim.reach in claim.reason else f"{claim.reason}; {claim.reach}"


def _cell(claim: Claim) -> Cell:
    """Verdict, and under it the effect beside what it is read against; the reason where there is no effect."""
    tone = _TONES.get(claim.verdict, "plain")
    if claim.verdict == NOT_TESTABLE:
        return Cell(claim.verdict, tone)
    if claim.effect is None or not math.isfinite(claim.effect.value):
        return Cell(claim.verdict, tone, claim.reason)
    return Cell(claim.verdict, tone, f"{claim.effect}; against {claim.null}" if claim.null else str(claim.effect))


# what it takes to make a run again is said in words that hold on any machine: no folder of ours, no clock
_FOLDERS = re.compile(r"(?<![\w.~/\\:])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?:[^\s'\"\\/]+[\\/])+")


def portable(text: str) -> str:
    """A command or setting with the folders of absolute paths cut away: only the last name of each stays."""
    return _FOLDERS.sub("", text)


def provenance(run: StudyRun) -> dict[str, object]:
    """Command, settings, versions, and of every model its fingerprint and how each kind of text was read."""
    facts: dict[str, Any] = {
        k: _portable(v) for k, v in run.manifest.items() if k not in ("models", "places", "seconds")
    }
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
    kept = ("variant", "pooling", "stimuli", "stimuli_sha256", "seed", "recipe", "notes")
    headers = {x.name: x.header for x in m.methods} | {"the paper's reading": m.jeong_reading.header}
    if m.jeong:
        headers["the paper's writing"] = m.jeong.header
    for name, header in headers.items():
        facts[name] = {k: _portable(v) for k in kept if (v := getattr(header, k)) not in ("", None, ())}
    return facts
