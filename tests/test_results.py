"""What a result says: a sentence, its table, a repr of a line or two; and what large objects say of themselves."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass, is_dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from planted_doses import experiment, steady

import lens_emotion as le
from lens_emotion.analysis.matched import topic_accuracy
from lens_emotion.analysis.removal import removal
from lens_emotion.display import Brief, Result
from lens_emotion.run.look import compare_runs
from lens_emotion.stats.tests import cohens_d
from lens_emotion.steering.comparison import Push, write_side_by_side
from lens_emotion.steering.judges import world_words
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.steering.verification import verification
from lens_emotion.vectors.emotion_vectors import random_like

SHORT = 400  # characters
ROOMS = ("analysis", "audits", "extraction", "laws", "stats", "steering", "stimuli", "study", "vectors")


def classes() -> list[type]:
    """Every class that the package defines."""
    found = []
    for module in pkgutil.walk_packages(le.__path__, "lens_emotion."):
        home = importlib.import_module(module.name)
        found += [kind for _, kind in inspect.getmembers(home, inspect.isclass) if kind.__module__ == module.name]
    return found


KINDS = [kind for kind in classes() if kind is not Result and callable(getattr(kind, "summary", None))]


def test_whatever_has_a_summary_is_a_result() -> None:
    assert len(KINDS) > 35
    assert [kind.__name__ for kind in KINDS if not issubclass(kind, Result)] == []


def test_no_class_that_holds_arrays_dumps_them() -> None:
    """`eq=False` marks a dataclass that holds arrays or frames; its repr is never the one dataclasses write."""
    for kind in classes():
        if kind.__module__.split(".")[1] in ROOMS and is_dataclass(kind):
            holds = issubclass(kind, Result) or kind.__eq__ is object.__eq__
            assert not (holds and dumps(kind)), f"{kind.__module__}.{kind.__name__} needs repr=False"


def dumps(kind: type) -> bool:
    """Whether its repr is what `dataclass` writes, which stands in no file."""
    return not Path(inspect.unwrap(kind.__repr__).__code__.co_filename).is_file()


def test_a_dataclass_repr_would_be_found() -> None:
    @dataclass(frozen=True, eq=False)
    class Dump:
        values: np.ndarray

    assert dumps(Dump)


@pytest.fixture(scope="module")
def every(acts, results, vectors, studied):
    """One real result of every class."""
    model, rng = tiny(), np.random.default_rng(0)
    push = Push("Anna ran", vectors["calm"], le.Dose(3.0), (3,), random_like(vectors, vectors["calm"], 1), 8)
    judge, scenes = le.word_count_judge(world_words("world-en")), le.scenarios("world-en")[:4]
    steered = le.dose_response(model, vectors, scenes, judge, doses=(3.0,), max_new_tokens=8, progress=False)
    more = [
        cohens_d(rng.normal(size=9), rng.normal(size=9)),
        le.similarity_by_layer(vectors),
        le.two_lines(rng.normal(size=(8, 6))),
        steered.cross_fitted(),
        verification({"tiny-llama": steered}),
        le.iso_kl(model, [vectors["calm"]], ["Anna ran."], 0.05),
        le.steering_grid(model, vectors, ["Anna ran."], ["calm"], doses=(1.0,), max_new_tokens=4),
        le.compare_texts(model, push, write_side_by_side(model, push), Thresholds(1e9, 1.0, 0.0), 4),
        le.check(model, compare=False),
        le.generate(model, "Anna ran.", vectors["calm"], max_new_tokens=4, progress=False),
        compare_runs(studied.folder, studied.folder),
        verification({"tiny-llama": results["dose_response"]}),
        topic_accuracy(acts),
        removal(acts, n_permutations=20),
        experiment(steady(2.0)).paired(),
        le.audit(vectors),
        stories := le.load_stimuli("world-en"),
        *published(model),
        le.power_of(le.StudyConfig(models=("tiny-llama",))),
        studied.protocols,
        le.lint(stories),
        studied,
        *studied.models,
        *studied.mixed.values(),
    ]
    return {type(found): found for found in [*results.values(), *more]}


def published(model):
    """The results of the published protocol."""
    last = le.extract_comprehension(model, le.load_stimuli("world-en", per_cell=1), pooling=le.last_token())
    jeong = le.presets.jeong
    twenty_one = jeong.extract_comprehension(last)
    steered = jeong.steer(model, twenty_one, "calm", "Anna ran.", doses=0.02, max_new_tokens=3)
    return (
        jeong.best_layer(last, n_permutations=5),
        steered,
        jeong.regimes(steered.table.text.tolist()),
        jeong.suppression(model, twenty_one, ["Anna ran."], n_random=2),
    )


def test_every_kind_of_result_is_tried(every) -> None:
    assert {kind.__name__ for kind in KINDS} == {kind.__name__ for kind in every}


def test_a_result_says_its_sentence_and_the_size_of_its_table(every) -> None:
    for kind, found in every.items():
        if kind is type(le.load_stimuli()):  # it looks as it is made
            continue
        said = repr(found)
        first = " ".join(" ".join(found.summary().split()[:6]).split())
        assert said.startswith(f"{kind.__name__}: {first}"), said
        assert len(said) < SHORT and "\n" not in said, said
        if isinstance(getattr(found, "table", None), pd.DataFrame):
            assert said.endswith(f"[table: {len(found.table)} rows x {found.table.shape[1]} columns]")


def test_a_notebook_shows_the_same_sentence(every) -> None:
    for found in every.values():
        assert found._repr_html_().startswith(f"<p>{escape(found.summary())}</p>")


WITHOUT = {
    "EffectSize",
    "Audit",
    "CheckReport",
    "GeneratedTexts",
    "RunComparison",
    "TopicAccuracy",
    "CrossFitted",
    "GridResult",
    "ModelStudy",
    "StudyRun",
    "StimulusSet",
    "Lint",
    "Mixed",
    "Protocols",
    "Regimes",
    "SteeredTexts",
    "Suppression",
}  # texts, lists of checks, or a number: their sentence and table are all there is


def test_a_notebook_draws_the_main_figure_and_asks_for_nothing_from_outside(every) -> None:
    bare = set()
    for kind, found in every.items():
        shown = found._repr_html_()
        assert not re.search(r"<script|<img|<link|https?:|src=|url\(|@import", shown), kind
        assert re.search(r"\bnan\b(?![^<]*</td>)", shown.replace(escape(found.summary()), "")) is None, kind
        if "<svg" not in shown and "<span style=" not in shown:
            bare.add(kind.__name__)
        if "<table" in shown and "<details>" in shown:
            assert shown.index("<details>") > max(shown.find("<svg"), 0), "the table is folded, below the figure"
    assert bare <= WITHOUT, f"without a figure: {sorted(bare - WITHOUT)}"


def test_large_objects_say_their_sizes(acts, vectors, results) -> None:
    stories = le.load_stimuli("world-en")
    for thing in (acts, vectors, vectors["calm"], stories, results["dose_response"]):
        assert len(repr(thing)) < SHORT and repr(thing).startswith(type(thing).__name__)
    assert repr(stories).startswith(f"StimulusSet('world-en': {len(stories)} texts, 20 emotions")


def test_a_brief_repr_gives_shapes_not_values() -> None:
    @dataclass(frozen=True, eq=False, repr=False)
    class Held(Brief):
        name: str
        values: np.ndarray
        table: pd.DataFrame
        many: tuple[int, ...]

    held = Held("a" * 900, np.zeros((4, 9)), pd.DataFrame({"x": range(7)}), tuple(range(99)))
    said = repr(held)
    assert "values=ndarray[4 x 9], table=DataFrame[7 x 1], many=tuple of 99" in said and len(said) < 200
