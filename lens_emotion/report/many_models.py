"""The figures that set models side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pandas import DataFrame, concat

from lens_emotion import plots
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.report.parts import Drawn
from lens_emotion.study.across import Across, Verification
from lens_emotion.study.results import ModelStudy
from lens_emotion.study.verdict import Claims


def methods(found: Across) -> Iterator[Drawn]:
    pairs = (("methods", found.methods, ("writing", "reading"),
              "Does writing tell emotions apart better than reading?"),
             ("methods_preset", found.presets, ("writing, middle token", "reading, last token"),
              "The same by the paper's presets"))  # fmt: skip
    for name, result, names, question in pairs:
        if result is not None:
            says = f"a: {names[0]}, b: {names[1]}. {result.summary()}"
            tables = {"": result.table, "tests": result.tests}
            yield Drawn(name, question, says, plots.compare_models(result, *names), tables)


def depth(models: Sequence[ModelStudy]) -> Iterator[Drawn]:
    """Curves over depth, a panel per model."""
    sweeps = {m.info.name: m.comprehension.sweep for m in models}
    drawn = plots.panels({n: plots.layer_sweep(s) for n, s in sweeps.items()}, "At which layers emotion can be read")
    best = "; ".join(f"{n} {_best(s)}" for n, s in sweeps.items())
    yield Drawn("layers", "At which layers can emotion be read?", f"Best depth (95% over topics): {best}.", drawn,
                {"": _stacked({n: s.table for n, s in sweeps.items()})})  # fmt: skip
    states = {m.info.name: m.anisotropy for m in models}
    drawn = plots.panels({n: plots.anisotropy(a) for n, a in states.items()}, "What all states have in common")
    yield Drawn("anisotropy", "How much do all states have in common?", " ".join(a.summary() for a in states.values()),
                drawn, {"": _stacked({n: a.table for n, a in states.items()})})  # fmt: skip


def geometry(found: Across) -> Iterator[Drawn]:
    if found.rsa is not None:
        yield Drawn("rsa", "Do models find the same emotions alike?", found.rsa.summary(), plots.rsa_many(found.rsa),
                    {"": found.rsa.table})  # fmt: skip


def steering(models: Sequence[ModelStudy], found: Across, verified: Verification) -> Iterator[Drawn]:
    """Success by an outside judge, regimes and onsets."""
    if verified.table.empty:
        return
    yield Drawn("verification", "Does a judge see the steering?", _verdicts(verified.table),
                plots.verification(verified), {"": verified.table})  # fmt: skip
    steered = {m.info.name: m.steering for m in models if m.steering is not None}
    tables = {"": _stacked({n: s.table for n, s in steered.items()})}
    if len(steered) > 1:
        paths = [f"{n}: {_path(s.table)} (random directions: {_path(s.table, 'random')})" for n, s in steered.items()]
        yield Drawn("regimes", "How does steering break?", "; ".join(paths) + ".", plots.regimes(steered), tables)
    if found.architecture is not None:
        a = found.architecture
        yield Drawn("architecture", "Is it architecture or size that sets where text breaks?",
                    f"{a.summary()}.", plots.by_architecture(a),
                    {"": a.models, "tests": a.table})  # fmt: skip


def claims(result: Claims) -> Drawn:
    return Drawn("claims", "What becomes of the paper's claims?", f"{result.summary()}.", plots.claims(result),
                 {"": result.table})  # fmt: skip


def _best(sweep: LayerSweep) -> str:
    low, high = sweep.best_depth_low, sweep.best_depth_high
    return f"{sweep.best_depth:.0%}" + ("" if low is None or high is None else f" [{low:.0%}, {high:.0%}]")


def _stacked(tables: dict[str, DataFrame]) -> DataFrame:
    return concat([t.assign(model=n)[["model", *t.columns]] for n, t in tables.items()], ignore_index=True)


def _verdicts(table: DataFrame) -> str:
    """k/n of every model and form, the controls in brackets."""
    parts = []
    for (form, model), rows in table.groupby(["form", "model"], sort=False):
        k = dict(zip(rows["condition"], rows["k"], strict=True))
        n = int(rows["n"].iloc[0])
        controls = ", ".join(f"{c} {k[c]}/{n}" for c in ("random", "other") if c in k)
        parts.append(f"{model}, {form}: {k['emotion']}/{n} ({controls})")
    return "; ".join(parts) + "."


def _path(table: DataFrame, condition: str = "emotion") -> str:
    rows = table[table["condition"] == condition].sort_values("dose")
    return " → ".join(dict.fromkeys(rows["regime"]))
