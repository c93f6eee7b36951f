"""k of n and judges, and the tables they stand in: names of columns, counts in words, files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from asked import asked
from planted_doses import experiment, steady

import lens_emotion as le
from lens_emotion.audits.table import CALLED, MEANINGS, read_frame, table_of
from lens_emotion.errors import ArtifactError

FOUND, PASSED, UNASKED = "found", "passed", "not asked"
TWENTY = {"n_emotions": 20}


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({k: v if isinstance(v, list) else [v] for k, v in columns.items()})


def texts(mine: int, control: int, n: int = 20) -> pd.DataFrame:
    """One row a text: how many of n succeed with the vector, and with a random direction."""
    success = [i < mine for i in range(n)] + [i < control for i in range(n)]
    return pd.DataFrame({"condition": ["emotion"] * n + ["random"] * n, "success": success})


@pytest.mark.parametrize(
    ("check", "given", "options", "status", "severity"),
    [
        ("chance", frame(success=37, n=40), {}, FOUND, "major"),  # without chance
        ("chance", frame(result="37/40 (92%)"), {"columns": {"result": "success"}}, FOUND, "major"),
        ("chance", frame(success=37, n=40, chance=0.5), {}, PASSED, ""),
        ("chance", frame(success=24, n=40, chance=0.5), {}, FOUND, "critical"),
        ("chance", frame(success=37, n=40, random=21), {}, PASSED, ""),
        ("chance", frame(success=26, n=40, random=19), {}, FOUND, "major"),
        ("chance", frame(success=18, n=40, random=1), {}, PASSED, ""),  # 1 is a count here, not all of them
        ("chance", frame(success_rate=0.65, n=40, random_rate=0.48), {}, FOUND, "major"),
        ("chance", frame(success_rate=0.92, n=40, random_rate=0.48), {}, PASSED, ""),
        ("chance", frame(success_rate="92%", n=40, chance="50%"), {}, PASSED, ""),
        ("chance", frame(accuracy=0.56, n=240), TWENTY, PASSED, ""),
        ("chance", frame(accuracy=0.06, n=240), TWENTY, FOUND, "critical"),
        ("chance", frame(layer=[*range(30)], accuracy=[*[0.05] * 29, 0.085], n=[240] * 30), TWENTY, FOUND, "critical"),
        ("chance", frame(accuracy=0.085, n=240), TWENTY, PASSED, ""),  # one layer, not the best of thirty
        ("chance", frame(success=3, n=3, chance=0.5), {}, UNASKED, ""),  # three of three could not have shown it
        ("chance", frame(success_rate=0.9), {}, UNASKED, ""),
        ("chance", texts(18, 9), {}, PASSED, ""),
        ("chance", texts(11, 9), {}, FOUND, "major"),
        ("judge", frame(judge_accuracy=0.31, judge_n=240, judge_chance=0.05), {}, PASSED, ""),
        ("judge", frame(judge_accuracy=0.07, judge_n=240, judge_chance=0.05), {}, FOUND, "critical"),
        ("judge", frame(judge_accuracy=0.05), TWENTY, FOUND, "critical"),
        ("judge", frame(judge_accuracy=0.15, judge_n=400), TWENTY, FOUND, "major"),
        ("judge", frame(judge_accuracy=0.31), {}, UNASKED, ""),
        ("judge", frame(judge_accuracy=np.nan, judge_chance=0.05), {}, UNASKED, ""),
    ],
)  # fmt: skip
def test_counts_beside_chance_and_judges_beside_theirs(check, given, options, status, severity) -> None:
    outcome = asked(check, given, **options)
    assert outcome.status == status, outcome
    assert ([f.severity for f in outcome.faults][:1] or [""])[0] == severity, outcome.faults


def test_a_steering_experiment_is_asked_for_its_headline_and_its_judge() -> None:
    works = experiment(steady(4.0))
    assert {asked(check, works).status for check in ("chance", "judge", "loops")} == {PASSED}
    assert asked("chance", experiment(steady(0.0))).status != PASSED
    assert asked("judge", replace(works, judge_accuracy=0.12)).faults[0].severity == "critical"
    assert asked("judge", replace(works, judge_accuracy=None)).status == UNASKED
    (own,) = asked("judge", replace(works, judge_independent=False)).faults
    assert own.severity == "minor" and "itself" in own.what


def test_a_surgical_dose_whose_texts_loop_is_found() -> None:
    blessed = experiment(steady(4.0), loops=(2.0, 4.0), regimes=("inert", "surgical", "surgical", "explosive"))
    (fault,) = asked("loops", blessed).faults
    assert fault.severity == "critical" and fault.where.endswith("dose 2, 4")


@pytest.mark.parametrize("theirs", ["Mean Cosine", "mean_cosine", "avg-cosine", "cos_sim", " Cosine Similarity "])
def test_a_column_is_known_by_many_names(theirs) -> None:
    assert list(table_of(pd.DataFrame({theirs: [0.4], "Layer": ["L12"]})).frame) == ["cosine", "layer"]


def test_every_name_means_one_thing() -> None:
    said = [alias for name, (_, aliases) in MEANINGS.items() for alias in (name, *aliases.split())]
    assert {a: said.count(a) for a in said if said.count(a) > 1 and CALLED[a] not in ("condition", "method")} == {}


@pytest.mark.parametrize(
    ("given", "columns", "words"),
    [
        (pd.DataFrame({"x": [1.0]}), None, "none of its columns is understood"),
        (pd.DataFrame(), None, "no rows"),
        (pd.DataFrame({"x": [1.0]}), {"y": "cosine"}, "no column 'y'"),
        (pd.DataFrame({"x": [1.0]}), {"x": "cosinus"}, "did you mean cosine"),
        (pd.DataFrame({"cosine": ["high", "low"]}), None, "'high' is no number"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(given, columns, words) -> None:
    with pytest.raises(ArtifactError, match=words):
        le.audit(given, columns=columns)


ROWS = [{"layer": 0, "mean_cosine": 0.4}, {"layer": 1, "mean_cosine": 0.5}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "layer,mean_cosine\n0,0.4\n1,0.5\n"),
        ("t.tsv", "layer\tmean_cosine\n0\t0.4\n1\t0.5\n"),
        ("t.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("t.json", json.dumps(ROWS)),
        ("deep.json", json.dumps({"model": "x", "report": {"sweep": ROWS}})),
        ("columns.json", json.dumps({"layer": [0, 1], "mean_cosine": [0.4, 0.5]})),
    ],
)
def test_tables_are_read_from_files(tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text)
    assert read_frame(tmp_path / name)["mean_cosine"].tolist() == [0.4, 0.5]
    assert asked("cosine-bound", tmp_path / name).status == PASSED


def test_nan_in_json_is_seen_not_refused(tmp_path) -> None:
    (tmp_path / "m.json").write_text('[{"layer": 11, "cosine": 0.4}, {"layer": 12, "cosine": NaN}]')
    (fault,) = asked("overflow", tmp_path / "m.json").faults
    assert "layer 12" in fault.where and fault.moves == 50


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"layer": [0, 1], "their_sim": [-0.04, -0.05]}), ("nothing could be asked", "their_sim")),
        (pd.DataFrame({"model": ["a"], "result": ["37 of 40"]}), ("nothing could be asked", "result")),
        (pd.DataFrame({"accuracy": [0.9], "n": [240], "chance": [0.05], "who": ["me"]}), ("nothing found", "who")),
    ],
)
def test_columns_that_were_not_understood_are_told(frame, words):
    found = le.audit(frame)
    assert all(word in found.summary() for word in words) and words[1] in json.loads(found.to_json())["unread"]


def test_a_mean_similarity_is_a_cosine():
    sweep = pd.DataFrame({"layer": range(3), "avg_similarity": [-0.049, -0.0495, -0.0498]})
    assert asked("cosine-bound", sweep, n_emotions=21).status == "found"
