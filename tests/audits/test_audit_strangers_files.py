"""Files and tables as strangers keep them: one emotion a file, other files beside, decimal commas, percent, gaps."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from asked import asked, random_set

import lens_emotion as le
from lens_emotion.audits.reading import subject_of
from lens_emotion.audits.table import read_frame, table_of
from lens_emotion.errors import ArtifactError

FOUND, PASSED, UNASKED = "found", "passed", "not asked"
ROWS = random_set(4, 3, 128)
NAMES = ("anger", "calm", "fear", "joy")


def row(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({k: v if isinstance(v, list) else [v] for k, v in columns.items()})


@pytest.mark.parametrize(("layers", "shape"), [(slice(None), (4, 3, 128)), (0, (4, 1, 128))])
def test_one_emotion_a_file_of_one_array_is_one_set(tmp_path, layers, shape) -> None:
    centred = ROWS - ROWS.mean(0)
    for name, rows in zip(NAMES, centred, strict=True):
        np.save(tmp_path / f"{name}.npy", rows[layers])
    (held,) = subject_of(tmp_path).vectors
    assert held.emotions == NAMES and held.values.shape == shape
    assert asked("cosine-bound", tmp_path).status == FOUND
    if layers == 0:
        assert subject_of([tmp_path / f"{n}.npy" for n in NAMES]).vectors[0].emotions == NAMES


def test_one_layer_a_file_is_one_set_too(tmp_path) -> None:
    for k in range(3):
        np.save(tmp_path / f"layer_{k}.npy", ROWS[:, k])
    (held,) = subject_of(tmp_path).vectors
    assert np.array_equal(held.values, ROWS)


def test_an_only_array_without_a_name_is_called_as_its_file(tmp_path) -> None:
    for name, rows in zip(NAMES, ROWS, strict=True):
        np.savez(tmp_path / f"{name}.npz", rows[0])
    (held,) = subject_of(tmp_path).vectors
    assert held.emotions == NAMES and held.values.shape == (4, 1, 128)


def test_vectors_beside_the_names_of_their_rows(tmp_path) -> None:
    np.savez(tmp_path / "v.npz", vectors=ROWS, emotions=np.array(NAMES), d_model=128)
    (held,) = subject_of(tmp_path / "v.npz").vectors
    assert held.emotions == NAMES and held.values.shape == ROWS.shape
    with pytest.raises(ArtifactError, match="4 vectors, but 3 emotions"):
        subject_of({"vectors": ROWS, "emotions": list(NAMES[:3])})


@pytest.mark.parametrize("form", ["{e}.layer.{k}", "{e}.layers.{k}.vector", "layer_{k}.{e}", "{e}/{k}", "{e}_l{k}"])
def test_keys_of_emotions_at_layers(form) -> None:
    given = {form.format(e=e, k=k): ROWS[i, k] for i, e in enumerate(NAMES) for k in range(3)}
    (held,) = subject_of(given).vectors
    assert held.emotions == NAMES and held.layers == (0, 1, 2) and np.array_equal(held.values, ROWS)


def test_sets_of_one_shape_in_a_list_are_several() -> None:
    assert [s.values.shape for s in subject_of([ROWS, ROWS]).vectors] == [ROWS.shape] * 2


def test_files_that_are_no_tables_are_passed_over_and_listed(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("layer,mean_cosine\n0,0.4\n1,0.5\n")
    (tmp_path / "step.json").write_text(json.dumps({"key": "abc", "seconds": 3}))
    (tmp_path / "broken.json").write_text("{")
    found = le.audit(tmp_path)
    assert len(found.unread) == 2 and found.unread[1].startswith("step.json (")
    assert "step.json" in found.summary() and not len(found.findings)
    (tmp_path / "t.csv").unlink()
    with pytest.raises(ArtifactError, match=r"nothing that can be audited: broken\.json"):
        le.audit(tmp_path)


def test_what_a_column_is_need_be_true_of_one_table_alone() -> None:
    mine, other = row(avg_sim=[0.4, 0.5]), row(accuracy=0.9, n=100, chance=0.5)
    found = le.audit([mine, other], columns={"avg_sim": "cosine"})
    assert {o.check.name: o.status for o in found.outcomes}["cosine-bound"] == PASSED
    with pytest.raises(ArtifactError, match="no table has the column of sim=cosine"):
        le.audit([other, other], columns={"sim": "cosine"})


def test_columns_of_one_name_are_answered() -> None:
    twice = pd.DataFrame([[0.4, 0.5, 7.0]], columns=["cosine", "cosine", "norm"])
    assert table_of(twice).unread == ("cosine (several columns of this name)",)
    for options in ({}, {"columns": {"cosine": "cosine"}}):
        with pytest.raises(ArtifactError, match="several columns"):
            le.audit(twice[["cosine"]], **options)


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        (["-0,0492", "-0,05"], [-0.0492, -0.05]),
        (["0,492", "1,292"], [0.492, 1.292]),  # the first can be no thousands
        (["1.292,5", "19,8"], [1292.5, 19.8]),
        (["1,292", "19.8"], [1292, 19.8]),
        (["1,292,000"], [1292000]),
        (["\u22120.05"], [-0.05]),
    ],
)
def test_commas_of_decimals_and_of_thousands(said, numbers) -> None:
    assert table_of(row(norm=said)).frame["norm"].tolist() == numbers


def test_commas_that_could_be_both_are_those_of_the_table_or_left_unread() -> None:
    assert table_of(row(norm=["1,292"], cosine=["0,25"])).frame["norm"].tolist() == [1.292]
    unread = table_of(row(norm=["0,25", "1.5"], layer=[0, 1])).unread
    assert len(unread) == 1 and unread[0].startswith("norm (commas")


def test_semicolons_part_columns_where_commas_are_decimals(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("layer;mean_cosine;norm\n0;-0,0492;1,292\n1;-0,0495;1,305\n")
    frame = table_of(read_frame(tmp_path / "t.csv")).frame
    assert frame["cosine"].tolist() == [-0.0492, -0.0495] and frame["norm"].tolist() == [1.292, 1.305]


@pytest.mark.parametrize("said", ["<0.001", "0.91 +- 0.02", "0.91 (0.02)", "**0.91**"])
def test_a_column_of_other_words_is_left_unread_with_its_reason(said) -> None:
    found = le.audit(row(cosine=[0.4, 0.5], p_value=[said, "0.2"]))
    assert found.unread == (f"p_value (row 1: '{said}' is no number)",) and "is no number" in found.summary()
    with pytest.raises(ArtifactError, match="is no number; give numbers"):
        le.audit(row(cosine=0.4, x=said), columns={"x": "p"})


@pytest.mark.parametrize("beside", [{"chance": "0.5*"}, {"random": "half"}, {"n": "40?"}])
def test_what_leans_on_an_unread_column_is_not_asked(beside) -> None:
    given = row(**({"success": 37, "n": 40} | beside))
    assert asked("chance", given).status == UNASKED


@pytest.mark.parametrize(
    ("check", "given", "status", "severity"),
    [
        ("judge", row(judge_acc=22, n_labelled=100, n_classes=5), FOUND, "critical"),
        ("judge", row(judge_acc=62.5, n_labelled=200, n_classes=5), PASSED, ""),
        ("judge", row(judge_acc=22, n_labelled=200, n_classes=5), UNASKED, ""),  # 22 of 200, or 22%
        ("noise", row(split_half=[12.0, 9.0]), FOUND, "major"),
        ("noise", row(split_half=[1.05]), UNASKED, ""),
        ("noise", row(split_half=[0.4, 20]), UNASKED, ""),
        ("chance", row(success=45.0, n=200), UNASKED, ""),  # a count, or percent
        ("chance", row(success_rate=45.0, n=200, chance="50%"), FOUND, "critical"),
        ("chance", row(accuracy=52, n=100, chance=50), FOUND, "critical"),
        ("chance", row(accuracy=0.82, n=100, chance=50), PASSED, ""),
        ("chance", row(accuracy=37, n=40), UNASKED, ""),
        ("chance", row(**{"accuracy (%)": 82.0, "n": 100, "chance (%)": 50}), PASSED, ""),
        ("chance", row(success=37, n=40, chance=20), UNASKED, ""),
        ("chance", row(success_rate=0.925, n=40, random_rate=50.0), PASSED, ""),
        ("chance", row(success=37, n=40, random_rate=50.0), PASSED, ""),
        ("chance", row(success="92,5%", n=40, chance="50%"), PASSED, ""),
        ("chance", row(success=37, n=40, n_control=40), FOUND, "major"),  # alone, not against 40 of 40
        ("judge", row(layer=[0, 1], classifier_accuracy=[0.05, 0.06], n_classes=[20, 20]), UNASKED, ""),
        ("judge", row(judge="x", classifier_accuracy=0.05, n_classes=20), FOUND, "critical"),
    ],
)  # fmt: skip
def test_percent_is_read_as_such_or_not_at_all(check, given, status, severity) -> None:
    outcome = asked(check, given)
    assert outcome.status == status, outcome
    assert ([f.severity for f in outcome.faults] or [""])[0] == severity, outcome.faults


def test_what_was_read_as_percent_is_said_with_the_number() -> None:
    (reply,) = asked("judge", row(judge_acc=62.5, n_labelled=200, n_classes=5)).seen
    assert "judge_acc in percent" in reply and "0.62" in reply


def test_methods_that_are_arms_are_conditions() -> None:
    arms = row(method=["steering", "random"], success=[37, 21], n=[40, 40])
    assert asked("chance", arms).status == PASSED and "condition" in table_of(arms).frame
    for names in (["control vector (repeng)", "mean"], ["brother-prompt", "x"], ["random", "random"]):
        assert "condition" not in table_of(row(method=names, success=[3, 2], n=[4, 4])).frame


def test_a_number_beside_true_and_false_is_not_out_of_how_many() -> None:
    assert "n" not in table_of(row(success=[True, False], total=[55, 60])).frame
    assert "n" not in table_of(row(success=[1, 0], count=[55, 60])).frame


def test_cells_that_were_left_empty_are_no_nan() -> None:
    long = row(layer=[0, 0, 1, 1], accuracy=[0.9, None, 0.8, None], norm=[None, 20.0, None, 21.0])
    outcome = asked("overflow", long)
    assert outcome.status == PASSED and "accuracy is finite in 2 rows" in outcome.words
    some = row(layer=[0, 1, 2], accuracy=[0.9, None, 0.8], norm=[19.0, 20.0, 21.0])
    assert "accuracy is empty in 1 of 3 rows" in asked("overflow", some).words
    assert asked("overflow", row(accuracy=[0.9, np.nan], norm=[19.0, np.nan])).faults[0].severity == "critical"
    assert asked("overflow", row(accuracy=[0.9, np.inf], norm=[19.0, 20.0])).faults[0].severity == "critical"
    assert "table" in le.audit(row(cosine=[0.4, np.nan])).findings["mend"][0]


def test_a_file_is_not_written_over_what_is_read_and_the_option_is_named(called, tmp_path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\n")  # which would be refused too, but later
    said = called("audit", tmp_path / "t.csv", "--json", tmp_path / "t.csv")
    assert said.code == 2 and "give another --json" in said.err
