"""The figures of one model, in the order of the paper's questions."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go
from pandas import DataFrame

from lens_emotion import plots
from lens_emotion.report.parts import Drawn
from lens_emotion.study.across import Geometry
from lens_emotion.study.results import ModelStudy

Tables = dict[str, DataFrame]


def methods(m: ModelStudy) -> Iterator[Drawn]:
    """Writing against reading, in the default form and in that of the paper."""
    pairs = (
        ("methods", m.versus, "Does writing tell emotions apart better than reading?"),
        ("methods_preset", m.versus_preset, "The same by the paper's presets and its cosine"),
    )
    for name, result, question in pairs:
        if result is not None:
            tables = {"": result.table, "tests": result.overall}
            yield _of(m, name, question, result.summary(), plots.compare(result), tables)


def depth(m: ModelStudy) -> Iterator[Drawn]:
    """Held-out decoding and anisotropy by layer."""
    sweep, states = m.comprehension.sweep, m.anisotropy
    question = "At which layers can emotion be read?"
    yield _of(m, "layers", question, sweep.summary(), plots.layer_sweep(sweep), {"": sweep.table})
    question = "How much do all states have in common?"
    yield _of(m, "anisotropy", question, states.summary(), plots.anisotropy(states), {"": states.table})


def separation(m: ModelStudy) -> Iterator[Drawn]:
    """The cosine in its company, of reading and of the paper's preset of writing."""
    s, r = m.comprehension.separation, m.comprehension.reliability
    question = "Are the vectors apart, and is that more than noise?"
    yield _of(m, "separation", question, s.summary(), plots.separation(s), {"": s.table}, ", reading: story mean")
    if m.jeong:
        p = m.jeong.separation
        question = "The paper's generation preset (middle token), in company"
        how = ", writing by the paper's preset"
        yield _of(m, "separation_preset", question, p.summary(m.jeong.layer), plots.separation(p), {"": p.table}, how)
    question = "Would other topics give the same vectors?"
    yield _of(m, "reliability", question, r.summary(), plots.reliability(r), {"": r.table, "by_layer": r.by_layer})


def space(m: ModelStudy, found: Geometry) -> Iterator[Drawn]:
    """How the emotions lie to each other at the layer that decodes best."""
    s, c, d = m.similarity, m.circumplex, m.comprehension.decoding
    yield _of(m, "similarity", "Which emotions are alike?", s.summary(), plots.similarity(s), {"": s.table})
    if not isinstance(c, str):
        question = "Do the main axes follow human valence and arousal?"
        tables = {"": c.table, "correlations": c.correlations}
        yield _of(m, "circumplex", question, c.summary(), plots.circumplex(c), tables)
    if found.human is not None:
        h, question = found.human, "Are emotions alike in the model that are alike to people?"
        yield _of(m, "human", question, h.summary(), plots.rsa_human(h), {"": h.table})
    if found.opposites is not None:
        o, question = found.opposites, "Do opposite emotions point apart?"
        yield _of(m, "opposites", question, o.summary(), plots.opposites(o), {"": o.table, "by_layer": o.by_layer})
    confused = d.confusion.rename_axis("true").reset_index()
    yield _of(m, "confusion", "Which emotion is taken for which?", d.summary(), plots.confusion(d), {"": confused})


def steering(m: ModelStudy) -> Iterator[Drawn]:
    """Dose and response, and side effects where a dose is surgical."""
    s = m.steering
    if s is None:
        return
    question = "What does steering do, and from which dose does it break the text?"
    yield _of(m, "dose_response", question, f"{s.summary()}.", plots.dose_response(s), {"": s.table})
    if s.surgical_dose is not None:
        e, question = s.side_effects(), "Which other emotions does steering bring along?"
        yield _of(m, "side_effects", question, e.summary(), plots.side_effects(e), {"": e.table})


def languages(m: ModelStudy) -> Iterator[Drawn]:
    """Other scripts in steered texts, and in the tokens that the vectors raise."""
    if m.leakage is not None:
        found, question = m.leakage, "Does steering bring out another language?"
        tables = {"": found.table} | ({} if found.words is None else {"words": found.words})
        yield _of(m, "leakage", question, found.summary(), plots.leakage(found), tables)
    up = m.lens.table[m.lens.table["side"] == "up"]
    scripts = m.lens.scripts[m.lens.scripts["side"] == "up"]
    strictest = scripts[scripts["control"] == scripts["control"].iloc[-1]]
    question, tables = "Which tokens do the vectors bring out?", {"": up, "scripts": strictest}
    yield Drawn("lens", question, m.lens.summary(), plots.lens(m.lens), tables)


def _of(m: ModelStudy, name: str, question: str, says: str, figure: go.Figure, tables: Tables, how: str = "") -> Drawn:
    """A figure whose subtitle begins with the model (and the method) that it shows, unless it says so itself."""
    said = figure.layout.title.subtitle.text or ""
    return Drawn(
        name, question, says, figure if m.info.name in said else plots.about(figure, m.info.name + how), tables
    )
