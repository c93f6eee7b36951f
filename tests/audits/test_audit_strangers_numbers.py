"""What a stranger's numbers are: trials, controls, judges, units of dose, cosines, sizes; and what is none of these."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from asked import asked, random_set

import lens_emotion as le
from lens_emotion.audits.wording import is_control
from lens_emotion.errors import ArtifactError

FOUND, PASSED, UNASKED = "found", "passed", "not asked"
FIRST, REST = 1292.0, 19.8


def frame(**columns: object) -> pd.DataFrame:
    rows = max(len(v) for v in columns.values() if isinstance(v, list)) if any(
        isinstance(v, list) for v in columns.values()
    ) else 1  # fmt: skip
    return pd.DataFrame({k: v if isinstance(v, list) else [v] * rows for k, v in columns.items()})


def arms(column: str, mine: str, control: str, k: int = 36, c: int = 20, n: int = 40) -> pd.DataFrame:
    return frame(**{column: [mine, control]}, success=[k, c], n=n)


@pytest.mark.parametrize(
    ("given", "options", "status"),
    [
        (frame(model=["a"], success=["0/0"]), {}, UNASKED),
        (frame(model=["a", "b"], success=["0/0", "37/40"], chance=0.5), {}, PASSED),
        (frame(success=37, n=40, control=60), {}, UNASKED),
        (frame(success_rate=0.925, n=40, random_rate=50.0), {}, PASSED),
        (frame(success=37, n=40, control=-1), {}, UNASKED),
        (frame(success=41, n=40, chance=0.5), {}, UNASKED),
        (frame(accuracy=0.52, n=100, chance=50), {}, FOUND),
        (frame(accuracy=0.52, n=100, chance=-0.5), {}, UNASKED),
        (frame(layer=list(range(12)), probe_acc=[1.0] * 12), {}, UNASKED),
        (frame(layer=list(range(12)), probe_acc=[1.0] * 12), {"n_emotions": 20}, UNASKED),
        (frame(layer=list(range(12)), success=[1.0] * 12), {}, UNASKED),
        (frame(layer=list(range(12)), passed=[True] * 12), {}, UNASKED),  # one trial a layer
        (frame(success=True, count=55), {}, UNASKED),
        (frame(success=[1, 0, 1], count=[55, 40, 61]), {}, UNASKED),
        (frame(success=[True] * 18 + [False] * 2, count=55), {}, FOUND),  # 18 of 20, without chance
        (frame(success=3, n=3), {}, UNASKED),
        (frame(success=2, n=2, control=1), {}, UNASKED),
        (frame(success=[3, 90], n=[3, 100], chance=0.5), {}, PASSED),  # not the share, but what it rests on
        (frame(condition=["random"] * 2, success=[20, 21], n=40), {}, UNASKED),
    ],
)
def test_what_can_be_counted_and_what_cannot(given, options, status) -> None:
    outcome = asked("chance", given, **options)
    assert outcome.status == status, outcome


@pytest.mark.parametrize("column", ["condition", "method", "emotion", "model"])
@pytest.mark.parametrize(
    "control", ["random", "Random directions", "RandomVector", "control", "un-steered", "no_steering"]
)
def test_a_control_is_known_in_whichever_column(column, control) -> None:
    outcome = asked("chance", arms(column, "joy", control))
    assert outcome.status == PASSED and "control 20 of 40" in outcome.words
    (fault,) = asked("chance", arms(column, "joy", control, k=21)).faults
    assert "control explains" in fault.what and control not in fault.where


@pytest.mark.parametrize(
    ("said", "controls"),
    [
        ("brother-prompt", False),
        ("control vector (repeng)", False),
        ("Control-Vectors", False),
        ("random control vector", True),
        ("controlled generation", False),
        ("random forest", False),
        ("randomly", False),
        ("other emotion", True),
        ("another_direction", True),
        ("baseline", True),
        ("unsteered", True),
        ("nullified", False),
        ("none", True),
    ],
)
def test_controls_are_matched_by_whole_words(said, controls) -> None:
    assert is_control(pd.DataFrame({"method": [said]})).tolist() == [controls]


def test_an_emotion_called_other_is_no_control() -> None:
    assert not is_control(pd.DataFrame({"emotion": ["other", "none", "joy"]})).any()


def test_single_texts_of_a_control_in_the_column_of_methods() -> None:
    given = frame(
        method=["steering"] * 20 + ["random"] * 20, success=[True] * 18 + [False] * 2 + [True] * 8 + [False] * 12
    )
    outcome = asked("chance", given)
    assert outcome.status == PASSED and "18 of 20, control 8 of 20" in outcome.words


def test_a_control_has_its_own_number_of_trials() -> None:
    """2 of 4 is no 20 of 40."""
    outcome = asked("chance", frame(condition=["joy", "random"], success=[30, 2], n=[40, 4]))
    assert "control explains: 2 of 4" in outcome.faults[0].what


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (frame(success=1, n=40, random=19), "is how far the rate is below its control"),
        (frame(success=10, n=40, chance=0.5), "is how far the rate is below chance"),
        (frame(success=24, n=40, chance=0.5), "is all that the rate is above chance"),
        (frame(success=20, n=40), "is how far the rate is from one half"),
    ],
)
def test_what_a_count_moves_is_true_of_its_sign(given, words) -> None:
    (fault,) = asked("chance", given).faults
    assert fault.unit == words and fault.moves >= 0


def test_many_models_make_one_line_that_names_the_worst() -> None:
    given = frame(model=[f"m{i}" for i in range(40)], success=[24] * 39 + [19], n=40, chance=0.5)
    (fault,) = asked("chance", given).faults
    assert "m39 (the worst of 40; also m0, m1, m10 and 36 more)" in fault.where and fault.what.startswith("19 of 40")


@pytest.mark.parametrize(
    ("given", "options", "status"),
    [
        (frame(judge_acc=22, n_labelled=100, n_classes=5), {}, FOUND),
        (frame(judge_acc=22, n_classes=5), {}, FOUND),
        (frame(judge_acc=-0.1, judge_chance=0.2), {}, UNASKED),
        (frame(judge_acc=0.9, judge_chance=50), {}, PASSED),
        (frame(judge_acc=1.0, n_labelled=1, judge_chance=0.05), {}, UNASKED),
        (frame(judge_acc=1.0, n_labelled=9, judge_chance=0.2), {}, UNASKED),
        (frame(judge_acc=1.0, n_labelled=10, judge_chance=0.05), {}, UNASKED),  # not one text of every class
        (frame(judge_acc=1.0, n_labelled=0, judge_chance=0.2), {}, UNASKED),
        (frame(judge_acc=0.9, n_labelled=40, judge_chance=0.2), {}, PASSED),
        (frame(layer=[0, 1, 2], classifier_accuracy=[0.2, 0.5, 0.9], judge_chance=0.2), {}, UNASKED),
    ],
)
def test_a_judge_is_measured_or_not_asked(given, options, status) -> None:
    assert asked("judge", given, **options).status == status


def test_judges_are_named_in_one_line() -> None:
    given = frame(model=["a", "b", "c"], judge_acc=[0.3, 0.1, 0.2], judge_chance=0.2, n_labelled=100)
    (fault,) = [f for f in asked("judge", given).faults if "below" in f.unit]
    assert fault.where.startswith("table, b") and fault.moves == pytest.approx(0.1)


def many_prompts(**columns: object) -> pd.DataFrame:
    rows = [(p, i, FIRST if i == 0 else REST) for p in range(10) for i in range(10)]
    return pd.DataFrame(rows, columns=["example_id", "position", "norm"]).assign(**columns)


@pytest.mark.parametrize("order", ["as written", "position", "norm"])
def test_rows_of_many_prompts_are_no_single_sequence(order) -> None:
    given = many_prompts() if order == "as written" else many_prompts().sort_values(order, ascending=False)
    (fault,) = asked("first-token", given).faults
    assert "65.3 times as long" in fault.what
    assert fault.moves == pytest.approx((FIRST + 9 * REST) / 10 / REST)
    (fault,) = asked("first-token", given.rename(columns={"example_id": "prompt"})).faults
    assert "65.3 times as long" in fault.what


def test_positions_that_leave_the_first_out_are_not_asked() -> None:
    given = many_prompts()
    assert asked("first-token", given[given["position"] > 0]).status == UNASKED
    assert asked("first-token", given[given["position"] % 3 == 0]).status == UNASKED


def test_layers_make_one_line_that_names_the_worst() -> None:
    given = pd.concat([many_prompts(layer=k, norm=[FIRST * (k + 1), *[REST] * 9] * 10) for k in range(20)])
    (fault,) = asked("first-token", given).faults
    assert fault.where == "table, layer 19 (the worst of 20; also layer 18, layer 17, layer 16 and 16 more)"


def norms(unit: float | None, first: float = FIRST) -> list[str]:
    found = le.audit(random_set(), token_norms=[first, *[REST] * 99], unit=unit).table.set_index("check")
    return found.loc[["first-token", "prompt-length"], "status"].tolist()


@pytest.mark.parametrize(
    ("unit", "expected"),
    [(REST, [PASSED] * 2), (10.0, [PASSED] * 2), (32.5, [FOUND] * 2), (23.0, [UNASKED] * 2), (None, [FOUND] * 2)],
)
def test_a_unit_without_the_first_token_does_not_change_with_the_length(unit, expected) -> None:
    assert norms(unit) == expected


@pytest.mark.parametrize("unit", [0, -3, np.nan, np.inf])
def test_a_unit_is_above_zero(unit) -> None:
    with pytest.raises(ArtifactError, match="unit"):
        norms(unit)


@pytest.mark.parametrize(
    "given", [[0, 0, 0], [FIRST, REST, 0], [FIRST, -1.0], [FIRST, np.inf], [[FIRST, REST], [0.0, 1.0]]]
)
def test_lengths_are_above_zero(given) -> None:
    with pytest.raises(ArtifactError, match="lengths above 0"):
        le.audit(random_set(), token_norms=given)


def pushes(by: float, tokens: list[int]) -> pd.DataFrame:
    return frame(prompt_tokens=tokens, push=[5 * (t / 10) ** by for t in tokens], dose=0.03)


def test_a_push_that_grows_is_said_as_one() -> None:
    (fault,) = asked("prompt-length", pushes(1.0, [10, 20, 40, 80])).faults
    assert fault.moves == pytest.approx(8) and fault.unit == "times the push of the shorter prompt in the longer"
    (fault,) = asked("prompt-length", pushes(-1.0, [10, 20, 40, 80])).faults
    assert fault.moves == pytest.approx(8) and fault.unit == "times the push of the longer prompt in the shorter"


def test_pushes_of_models_do_not_cancel_and_like_lengths_show_nothing() -> None:
    both = pd.concat([pushes(by, [10, 20, 40, 80]).assign(model=f"m{by}") for by in (1.0, -1.0, 0.0)])
    assert asked("prompt-length", both).status == FOUND
    assert asked("prompt-length", pushes(0.0, [10, 11, 12])).status == UNASKED


@pytest.mark.parametrize(
    ("given", "options", "status"),
    [
        (frame(layer=[0, 1], cosine=[-0.05, -0.1666], n_classes=[21, 7]), {}, FOUND),
        (frame(layer=[0, 1], cosine=[0.01, 0.02], n_classes=[21, 7]), {}, PASSED),
        (frame(layer=[0, 1], cosine=[-0.02, -0.02], n_classes=[21, 7]), {}, PASSED),
        (frame(layer=[0, 1], cosine=[-4.95, -4.9]), {"n_emotions": 21}, UNASKED),
        (frame(layer=[0, 1], cosine=[1.05, 0.3]), {"n_emotions": 21}, UNASKED),
        (frame(layer=[0, 1], cosine=[-0.31, -0.05]), {"n_emotions": 21}, UNASKED),
        (frame(layer=[0, 1, 2], cosine=[-0.02, -0.025, -0.03]), {}, UNASKED),  # of how many is not known
        (frame(emotion_a=list("abcd"), emotion_b=list("bcda"), cosine=[-0.19, -0.2, -0.21, -0.23]), {}, UNASKED),
        (frame(layer=5, cosine=[-0.19, -0.2, -0.21, -0.23]), {}, UNASKED),  # several rows of one layer
    ],
)
def test_cosines_lie_beside_the_bound_of_their_own_classes(given, options, status) -> None:
    outcome = asked("cosine-bound", given, **options)
    assert outcome.status == status, outcome


def test_classes_that_differ_by_row_are_said() -> None:
    (fault,) = asked("cosine-bound", frame(layer=[0, 1], cosine=[-0.05, -0.1666], n_classes=[21, 7])).faults
    assert "7 to 21 classes" in fault.what and "2 of 2 rows" in fault.where


def test_the_best_layers_of_two_models_are_named() -> None:
    cosines = [-0.04, -0.045, -0.05, -0.05, -0.045, -0.04]
    given = frame(model=["a"] * 3 + ["b"] * 3, layer=[2, 3, 4, 3, 4, 5], cosine=cosines, best_layer=[4] * 3 + [3] * 3)
    (fault,) = asked("cosine-bound", given, n_emotions=21).faults
    assert "the best layers, 4 (a), 3 (b)," in fault.what


def test_one_row_at_the_bound_is_said_without_a_range() -> None:
    (fault,) = asked("cosine-bound", frame(cosine=-0.05), n_emotions=21).faults
    assert " to " not in fault.what and "rows" not in fault.where and fault.moves == pytest.approx(-0.05)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (frame(model=["a", "b"], magnitude=[0.0, 3.0], norm=[5.0, 6.0]), UNASKED),
        (frame(model=["a", "a", "b", "b"], layer=[0, 1, 0, 1], projection=[1.0, -1.0, 3, 3], norm=5.0), UNASKED),
        (frame(model=["a", "b"], magnitude=[1.0, 1.1]), UNASKED),  # over their own norms they may differ
        (frame(model=["a", "b"], magnitude=[18.0, 1.0], relative=[1.0, 18.0]), FOUND),  # the other way round
        (pd.concat([many_prompts(model=m, norm=[9, *[REST * k] * 9] * 10) for m, k in (("a", 1), ("b", 53))]), UNASKED),
        (frame(model=["a", "a", "b"], layer=[0, 1, 1], norm=[1.0, 20.0, 21.0]), UNASKED),
        (frame(model=["a", "a", "b"], dose=[1, 50, 1], push=[1.0, 50.0, 1.0], norm=5.0), PASSED),
    ],
)  # fmt: skip
def test_sizes_of_models_are_matched(given, status) -> None:
    outcome = asked("raw-units", given)
    assert outcome.status == status, outcome


def test_what_units_do_to_a_ratio_is_above_one() -> None:
    (fault,) = asked("raw-units", frame(model=["a", "b"], magnitude=[5.0, 5.0], relative=[0.01, 1.0])).faults
    assert fault.moves == pytest.approx(100) and "a is 1 times as large as b" in fault.what
