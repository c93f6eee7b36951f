"""The figures of one model, in the order of the paper's questions."""

from __future__ import annotations

from collections.abc import Iterator

from lens_emotion import plots
from lens_emotion.figures.drawn import Drawn
from lens_emotion.study.across import Geometry
from lens_emotion.study.results import ModelStudy


def methods(m: ModelStudy) -> Iterator[Drawn]:
    """Writing against reading, in the default form and in that of the paper."""
    pairs = (("methods", m.versus, "Does writing tell emotions apart better than reading?"),
             ("methods_preset", m.versus_preset, "The same by the paper's presets and its cosine"))  # fmt: skip
    for name, result, question in pairs:
        if result is not None:
            tables = {"": result.table, "tests": result.overall}
            yield Drawn(name, question, result.summary(), plots.compare(result), tables)


def depth(m: ModelStudy) -> Iterator[Drawn]:
    sweep = m.comprehension.sweep
    yield Drawn("layers", "At which layers can emotion be read?", sweep.summary(), plots.layer_sweep(sweep),
                {"": sweep.table})  # fmt: skip
    a = m.anisotropy
    yield Drawn("anisotropy", "How much do all states have in common?", a.summary(), plots.anisotropy(a), {"": a.table})


def separation(m: ModelStudy) -> Iterator[Drawn]:
    """The cosine in its company, of reading and of the paper's preset of writing."""
    s = m.comprehension.separation
    yield Drawn("separation", "Are the vectors apart, and is that more than noise?", s.summary(), plots.separation(s),
                {"": s.table})  # fmt: skip
    if m.jeong:
        p, layer = m.jeong.separation, m.jeong.layer
        yield Drawn("separation_preset", "The paper's generation preset (middle token), in company", p.summary(layer),
                    plots.separation(p), {"": p.table})  # fmt: skip
    r = m.comprehension.reliability
    yield Drawn("reliability", "Would other topics give the same vectors?", r.summary(), plots.reliability(r),
                {"": r.table, "by_layer": r.by_layer})  # fmt: skip


def space(m: ModelStudy, found: Geometry) -> Iterator[Drawn]:
    """How the emotions lie to each other at the layer that decodes best."""
    s, c, d = m.similarity, m.circumplex, m.comprehension.decoding
    yield Drawn("similarity", "Which emotions are alike?", s.summary(), plots.similarity(s), {"": s.table})
    yield Drawn("circumplex", "Do the main axes follow human valence and arousal?", c.summary(), plots.circumplex(c),
                {"": c.table, "correlations": c.correlations})  # fmt: skip
    if found.human is not None:
        yield Drawn("human", "Are emotions alike in the model that are alike to people?", found.human.summary(),
                    plots.rsa_human(found.human), {"": found.human.table})  # fmt: skip
    if found.opposites is not None:
        o = found.opposites
        yield Drawn("opposites", "Do opposite emotions point apart?", o.summary(), plots.opposites(o),
                    {"": o.table, "by_layer": o.by_layer})  # fmt: skip
    confused = d.confusion.rename_axis("true").reset_index()
    yield Drawn("confusion", "Which emotion is taken for which?", d.summary(), plots.confusion(d), {"": confused})


def steering(m: ModelStudy) -> Iterator[Drawn]:
    s = m.steering
    if s is None:
        return
    yield Drawn("dose_response", "What does steering do, and from which dose does it break the text?", s.summary(),
                plots.dose_response(s), {"": s.table})  # fmt: skip
    if s.surgical_dose is not None:
        e = s.side_effects()
        yield Drawn("side_effects", "Which other emotions does steering bring along?", e.summary(),
                    plots.side_effects(e), {"": e.table})  # fmt: skip


def languages(m: ModelStudy) -> Iterator[Drawn]:
    """Other scripts in steered texts, and in the tokens that the vectors raise."""
    if m.leakage is not None:
        found = m.leakage
        tables = {"": found.table} | ({} if found.words is None else {"words": found.words})
        yield Drawn("leakage", "Does steering bring out another language?", found.summary(), plots.leakage(found),
                    tables)  # fmt: skip
    up = m.lens.table[m.lens.table["side"] == "up"]
    scripts = m.lens.scripts[m.lens.scripts["side"] == "up"]
    strictest = scripts[scripts["control"] == scripts["control"].iloc[-1]]
    yield Drawn("lens", "Which tokens do the vectors bring out?", m.lens.summary(), plots.lens(m.lens),
                {"": up, "scripts": strictest})  # fmt: skip
