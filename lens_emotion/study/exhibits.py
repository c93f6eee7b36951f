"""The exhibits: every result that a study shows, one row each, in the order of the paper's questions.

The one list is read by whatever shows results: the CSV tables and the figures of a model's folder, the sections of the
report, and the gallery of `lens-emotion figures`. A row says what the result is, which function of `lens_emotion.plots`
draws it, and what is said and tabulated of it; a new analysis is shown everywhere by its row in `EXHIBITS`, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from pandas import DataFrame

from lens_emotion.analysis.anisotropy import Anisotropy
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.lens import Lens
from lens_emotion.display import Brief, said
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.inputs import LANGUAGES_OF
from lens_emotion.run.store import Store
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.leakage import Leakage
from lens_emotion.study.atlas import Atlas
from lens_emotion.study.results import Evidence, MethodStudy, ModelStudy, PublishedStudy

Frames = Mapping[str, DataFrame]
Listed = tuple[str, DataFrame, str]

METHODS = ("comprehension", "generation, conditioned", "generation, reread")
TESTS = [
    *("test", "measure", "unit", "n", "a", "b", "difference", "estimate"),
    *("low", "high", "p", "effect", "d", "warning"),
]
BY_DOSE = [  # of a steering table, what a page has room for
    *(
        "dose",
        "condition",
        "n",
        "success",
        "success_rate",
        "success_low",
        "success_high",
        "p_random",
        "perplexity_ratio",
    ),
    *("surprise", "distinct_2", "loop_share", "regime"),
]


@dataclass(frozen=True, eq=False, repr=False)
class Exhibit(Brief):
    """One result, wherever it is shown. A field left out means the plain case: one model, `table`, `summary()`.

    Attributes:
        id: of its files in a model's folder: figures/ID.json, tables/ID.csv.
        of: the result out of a `ModelStudy` (or an `Across`, see scope); None where the study lacks what it takes.
        figure: the function of `lens_emotion.plots` that draws it; "" for tables alone.
        title: its caption in the report, perhaps made of the result; "" for a figure that the page has in another form.
        question: what it answers, its heading in the gallery; "" keeps it out of there.
        analyse: makes the result of what was measured, where it is not a field of `ModelStudy`; then `of` is not given.
        says: the sentence below its figure.
        tables: of the result, file name -> CSV; None for its `table` as ID.csv.
        listed: tables in the report: (caption, frame, file name of its CSV).
        data: of its figure in the gallery; "" is the main table.
        drawn: the part of the result that the figure shows. options: of the figure's function.
        panels: title of small multiples, one per model, where the result maps models to results: what was found.
        gallery: name of its files in the gallery, if that is not `id`.
        scope: "model": a model's results, shown everywhere; "models" or "shown": side by side, or of the model shown,
            analysed for the gallery only.
        alone: in the gallery only where the run has a single model: several are shown side by side.
        how: words behind the model's name in the gallery. family: shown of the first model of this family there.
    """

    id: str
    of: Callable[[Any], Any] | None = None
    figure: str = ""
    title: str | Callable[[Any], str] = ""
    question: str = ""
    analyse: Callable[[Evidence, StudyConfig], Any] | None = None
    says: Callable[[Any], str] = lambda result: str(result.summary())
    tables: Callable[[Any], Frames] | None = None
    listed: Callable[[Any], Sequence[Listed]] = lambda result: ()
    data: Callable[[Any], Frames] = lambda result: {"": result.table}
    drawn: Callable[[Any], Any] = lambda result: result
    options: Mapping[str, Any] = field(default_factory=dict)
    panels: Callable[[Any], str] | None = None
    gallery: str = ""
    scope: Literal["model", "models", "shown"] = "model"
    alone: bool = False
    how: str = ""
    family: str = ""

    def found(self, subject: Any) -> Any:
        """The result, or None."""
        return subject.more.get(self.id) if self.of is None else self.of(subject)

    def caption(self, result: Any) -> str:
        return self.title if isinstance(self.title, str) else self.title(result)

    def csv(self, result: Any) -> Frames:
        return {self.id: result.table} if self.tables is None else self.tables(result)


def analysed(evidence: Evidence, config: StudyConfig) -> dict[str, Any]:
    """Results of the exhibits that analyse the evidence themselves, where it holds the texts that they take."""
    found = {}
    for exhibit in EXHIBITS:
        if exhibit.analyse is not None:
            try:
                found[exhibit.id] = exhibit.analyse(evidence, config)
            except (StimulusError, AnalysisError):
                continue
    return found


def results_of(study: ModelStudy) -> Iterator[tuple[Exhibit, Any]]:
    """Every exhibit of one model that this study has, with its result."""
    for exhibit in EXHIBITS:
        if exhibit.scope == "model" and (result := exhibit.found(study)) is not None:
            yield exhibit, result


def write_tables(study: ModelStudy, store: Store) -> None:
    """Write the tables of all results of one model, and remove those that this study does not have."""
    tables = {name: frame for exhibit, result in results_of(study) for name, frame in exhibit.csv(result).items()}
    for name, frame in tables.items():
        store.table(name, frame)
    store.only_tables(tables)


# What is said and tabulated of a result, where that is more than its sentence and its table.


def _no_tables(result: Any) -> Frames:
    return {}


def _ended(result: Any) -> str:
    return f"{result.summary()}."


def _method_tables(m: MethodStudy) -> Frames:
    frames = {
        "decoding": m.decoding.table,
        "separation": m.separation.table,
        "reliability": m.reliability.table,
        "confusion": m.decoding.confusion.rename_axis("true").reset_index(),
        "by_emotion": m.decoding.by_emotion,
        "auc": m.decoding.auc,
    }
    return {f"{name}_{_file(m.name)}": frame for name, frame in frames.items()}


def _file(method: str) -> str:
    """A method's name as part of a file name: "generation, reread" becomes "generation_reread"."""
    return method.replace(", ", "_").replace(" ", "_")


def _method(name: str, **more: Any) -> Exhibit:
    """Held-out decoding by one method, with all of that method's tables."""
    return Exhibit(
        f"layer_sweep_{_file(name)}",
        lambda m: next((x for x in m.methods if x.name == name), None),
        "layer_sweep",
        title=lambda x: f"{said(x.name)} ({x.n_texts} texts)",
        tables=_method_tables,
        drawn=lambda x: x.sweep,
        **more,
    )


def _versus(id: str, of: Callable[[ModelStudy], Any], title: str, question: str, listed: str) -> Exhibit:
    """Writing against reading in one form, paired."""
    return Exhibit(
        id,
        of,
        "compare",
        title,
        question,
        tables=lambda c: {f"{id}_by_layer": c.table, id: c.overall, f"{id}_pairs": c.pairs},
        listed=lambda c: [(listed, c.overall[TESTS], id)],
        data=lambda c: {"": c.table, "tests": c.overall},
        gallery=id.replace("versus", "methods"),
        alone=True,
    )


def _methods(name: str, of: Callable[[Any], Any], question: str, a: str, b: str) -> Exhibit:
    """The same over models."""
    return Exhibit(
        f"{name}_over_models",
        of,
        "compare_models",
        question=question,
        says=lambda c: f"a: {a}, b: {b}. {c.summary()}",
        data=lambda c: {"": c.table, "tests": c.tests},
        options={"name_a": a, "name_b": b},
        gallery=name,
        scope="models",
    )


def _by_model(across: Any, of: Callable[[ModelStudy], Any]) -> dict[str, Any] | None:
    """A result of every model that has it, where that are several."""
    found = {m.name: result for m in across.models if (result := of(m.study)) is not None}
    return found if len(found) > 1 else None


def _stacked(results: Mapping[str, Any]) -> Frames:
    tables = [r.table.assign(model=n)[["model", *r.table.columns]] for n, r in results.items()]
    return {"": pd.concat(tables, ignore_index=True)}


def _best_depths(sweeps: Mapping[str, LayerSweep]) -> str:
    said = []
    for name, s in sweeps.items():
        low, high = s.best_depth_low, s.best_depth_high
        said.append(f"{name} {s.best_depth:.0%}" + ("" if low is None or high is None else f" [{low:.0%}, {high:.0%}]"))
    return f"Best depth (95% over topics): {'; '.join(said)}."


def _layers_found(sweeps: Mapping[str, LayerSweep]) -> str:
    held = sum(float(s.table["p_corrected"].min()) <= 0.05 for s in sweeps.values())
    depths = [s.best_depth for s in sweeps.values()]
    best = f"best at depths {min(depths):.2f} to {max(depths):.2f}"
    return f"Emotions are told apart in {held} of {len(sweeps)} models, {best}"


def _common_found(states: Mapping[str, Anisotropy]) -> str:
    raw, centred = (
        [float(s.table[c].iloc[len(s.table) // 2]) for s in states.values()] for c in ("neutral_raw", "neutral_centred")
    )
    return (
        f"States of any two texts have a cosine of {min(raw):.2f} to {max(raw):.2f} half way up; less their mean, "
        f"{min(centred):.2f} to {max(centred):.2f}"
    )


def _paths(steered: Mapping[str, DoseResponse]) -> str:
    """The regimes that every model passes through, weak doses first."""

    def path(table: DataFrame, condition: str) -> str:
        rows = table[table["condition"] == condition].sort_values("dose")
        return " → ".join(dict.fromkeys(rows["regime"]))

    said = [
        f"{n}: {path(s.table, 'emotion')} (random directions: {path(s.table, 'random')})" for n, s in steered.items()
    ]
    return "; ".join(said) + "."


def _by_layer(atlas: Atlas) -> Frames:
    return {"circumplex_by_layer": pd.concat([c.correlations.assign(layer=c.layer) for c in atlas.circumplex])}


def _tokens(atlas: Atlas) -> Frames:
    """Every token of the texts that are shown, at every layer."""
    return {
        f"tokens_{i}": pd.concat([s.table.assign(layer=s.layer) for s in text.scores])
        for i, text in enumerate(atlas.texts, 1)
    }


def _steering(s: DoseResponse) -> Frames:
    frames = {"texts": s.texts, "unsteered": s.unsteered, "forms": s.forms, "by_emotion": s.by_emotion}
    return {"steering": s.table} | {f"steering_{name}": frame for name, frame in frames.items()}


def _leakage(found: Leakage) -> Frames:
    words = {} if found.words is None else {"leakage_words": found.words}
    return {"leakage": found.table, "leakage_scripts": found.scripts} | words


def _published(p: PublishedStudy) -> Frames:
    """Tables of the published protocol, each beside its null or control."""
    frames: dict[str, DataFrame] = {} if isinstance(p.layers, str) else {"published_layers": p.layers.table}
    if p.steering is not None:
        frames |= {"published_steering": p.steering.table, "published_texts": p.steering.texts}
        rows = [x.table.assign(condition=name)[["condition", *x.table.columns]] for name, x in p.regimes.items()]
        frames["published_regimes"] = pd.concat(rows, ignore_index=True)
    if p.suppression is not None:
        frames["published_suppression"] = p.suppression.table
    leaked = {} if p.leakage is None else _leakage(p.leakage)
    return frames | {f"published_{name}": frame for name, frame in leaked.items()}


def _leakage_everywhere(found: Leakage) -> Frames:
    return {name.replace("leakage", "leakage_everywhere"): frame for name, frame in _leakage(found).items()}


def _leakage_listed(found: Leakage) -> list[Listed]:
    listed = [("Foreign letters by dose", found.table, "leakage")]
    if found.words is not None and (found.words.target > 0).any():
        listed.append(("Chinese words of the emotion by dose", found.words, "leakage_words"))
    return listed


def _top_tokens(found: Lens) -> list[Listed]:
    rows = found.table[(found.table.side == "up") & (found.table["rank"] <= 6)]
    words = rows.groupby("emotion", sort=False)["token"].apply(lambda tokens: "  ".join(map(str, tokens)))
    return [("Top tokens", words.rename("tokens").reset_index(), "lens")]


def _raised(found: Lens) -> Frames:
    """What the vectors raise, and its scripts against the strictest control."""
    scripts = found.scripts[found.scripts["side"] == "up"]
    strictest = scripts[scripts["control"] == scripts["control"].iloc[-1]]
    return {"": found.table[found.table["side"] == "up"], "scripts": strictest}


LAYERS, COMMON = "At which layers can emotion be read?", "How much do all states have in common?"
WRITING = "Does writing tell emotions apart better than reading?"

EXHIBITS: tuple[Exhibit, ...] = (
    Exhibit(
        "claims", lambda a: a.claims, "claims", question="What becomes of the paper's claims?", says=_ended,
        scope="models",
    ),
    # writing against reading
    _methods("methods", lambda a: a.methods, WRITING, "writing", "reading"),
    _methods(
        "methods_preset", lambda a: a.presets, "The same by the paper's presets", "writing, middle token",
        "reading, last token",
    ),
    _versus(
        "versus", lambda m: m.versus, "Writing and reading, held-out decoding", WRITING,
        "Over layers: a is writing, b is reading",
    ),
    _versus(
        "versus_preset", lambda m: m.versus_preset, "The paper's presets, mean cosine",
        "The same by the paper's presets and its cosine", "The paper's presets",
    ),
    # where emotion can be read
    Exhibit(
        "layers_over_models", lambda a: _by_model(a, lambda m: m.comprehension.sweep), "layer_sweep", question=LAYERS,
        says=_best_depths, data=_stacked, panels=_layers_found, gallery="layers",
        scope="models",
    ),
    Exhibit(
        "anisotropy_over_models", lambda a: _by_model(a, lambda m: m.anisotropy), "anisotropy", question=COMMON,
        says=lambda states: " ".join(s.summary() for s in states.values()), data=_stacked,
        panels=_common_found, gallery="anisotropy", scope="models",
    ),
    _method(
        METHODS[0], question=LAYERS, says=lambda x: x.sweep.summary(), data=lambda x: {"": x.sweep.table},
        listed=lambda x: [("Decoding by layer, reading", x.decoding.table, "decoding_comprehension")],
        gallery="layers", alone=True,
    ),
    *(_method(name) for name in METHODS[1:]),
    Exhibit(
        "words", lambda m: None if isinstance(m.words, str) else m.words, "beyond_words",
        "What the states tell beyond the words", "Do the states tell more than the words?",
        tables=lambda w: {"words": w.table, "words_baselines": w.baselines},
        listed=lambda w: [("Words alone, on the same folds", w.baselines, "words_baselines")],
        data=lambda w: {"": w.table, "baselines": w.baselines},
    ),
    Exhibit(
        "twins", lambda m: m.twins, "twins_apart", "Events told from their twins without affect",
        "Is affect told from the same event without it?", listed=lambda t: [("Twins by layer", t.table, "twins")],
    ),
    Exhibit("anisotropy", lambda m: m.anisotropy, "anisotropy", "Anisotropy of neutral text", COMMON, alone=True),
    # are the vectors apart, and firm?
    Exhibit(
        "separation_comprehension", lambda m: m.comprehension.separation, "separation", "reading",
        "Are the vectors apart, and is that more than noise?", tables=_no_tables,
        listed=lambda s: [("Separation by layer, reading", s.table, "separation_comprehension")],
        gallery="separation", how=", reading: story mean",
    ),
    Exhibit(
        "separation_the_papers_generation_preset", lambda m: m.jeong, "separation", "the paper's preset for writing",
        "The paper's preset for writing (middle token), in company",
        says=lambda j: j.separation.summary(j.layer), tables=lambda j: {"separation_jeong": j.separation.table},
        data=lambda j: {"": j.separation.table}, drawn=lambda j: j.separation, gallery="separation_preset",
        how=", writing by the paper's preset",
    ),
    Exhibit("separation_jeong_reading", lambda m: m.jeong_reading.separation),
    Exhibit(
        "reliability", lambda m: m.comprehension.reliability, "reliability", "Split-half reliability, reading",
        "Would other topics give the same vectors?", tables=_no_tables,
        data=lambda r: {"": r.table, "by_layer": r.by_layer},
    ),
    # how the emotions lie to each other
    Exhibit("rsa", lambda a: a.rsa, "rsa_many", question="Do models find the same emotions alike?", scope="models"),
    Exhibit("similarity", lambda m: m.similarity, "similarity", question="Which emotions are alike?"),
    Exhibit("similarity_by_layer", lambda m: m.atlas.similarity),
    Exhibit(
        "circumplex", lambda m: m.circumplex, "circumplex",
        question="Do the main axes follow human valence and arousal?",
        tables=lambda c: {"circumplex": c.table, "circumplex_correlations": c.correlations},
        data=lambda c: {"": c.table, "correlations": c.correlations},
    ),
    Exhibit("circumplex_by_layer", lambda m: m.atlas if m.circumplex else None, tables=_by_layer),
    Exhibit(
        "human", lambda a: a.human, "rsa_human", question="Are emotions alike in the model that are alike to people?",
        scope="shown",
    ),
    Exhibit(
        "opposites", lambda a: a.opposites, "opposites", question="Do opposite emotions point apart?",
        data=lambda o: {"": o.table, "by_layer": o.by_layer}, scope="shown",
    ),
    Exhibit(
        "confusion", lambda m: m.comprehension.decoding, "confusion", "Confusion at the best layer",
        "Which emotion is taken for which?", tables=_no_tables,
        data=lambda d: {"": d.confusion.rename_axis("true").reset_index()},
    ),
    # steering
    Exhibit(
        "verification", lambda a: a.verification, "verification", question="Does a judge see the steering?",
        scope="models",
    ),
    Exhibit(
        "regimes", lambda a: _by_model(a, lambda m: m.steering) if a.verification else None, "regimes",
        question="How does steering break?", says=_paths, data=_stacked, scope="models",
    ),
    Exhibit(
        "architecture", lambda a: a.architecture if a.verification else None, "by_architecture",
        question="Is it architecture or size that sets where text breaks?", says=_ended,
        data=lambda a: {"": a.models, "tests": a.table}, scope="models",
    ),
    Exhibit(
        "dose_response", lambda m: m.steering, "dose_response", "Dose-response",
        "What does steering do, and from which dose does it break the text?", says=_ended, tables=_steering,
        listed=lambda s: [("Steering by dose", s.table[[c for c in BY_DOSE if c in s.table]], "steering")],
    ),
    Exhibit(
        "side_effects", lambda m: m.side_effects, "side_effects", "Side effects at the surgical dose",
        "Which other emotions does steering bring along?", tables=lambda e: {"steering_side_effects": e.table},
    ),
    # other languages, and the tokens that vectors raise
    Exhibit(
        "leakage", lambda m: m.leakage, "leakage", "Letters of other scripts in steered texts",
        "Does steering bring out another language?", tables=_leakage, listed=_leakage_listed,
        data=lambda x: {"": x.table} | ({} if x.words is None else {"words": x.words}), family=LANGUAGES_OF,
    ),
    Exhibit("leakage_everywhere", lambda m: m.leakage_everywhere, tables=_leakage_everywhere),
    Exhibit("published", lambda m: m.published, tables=_published),
    Exhibit(
        "lens", lambda m: m.lens, "lens", "Tokens that every vector brings out, and their scripts",
        "Which tokens do the vectors bring out?", tables=lambda x: {"lens": x.table, "lens_scripts": x.scripts},
        listed=_top_tokens, data=_raised, family=LANGUAGES_OF,
    ),
    Exhibit("tokens", lambda m: m.atlas, tables=_tokens),
)  # fmt: skip
