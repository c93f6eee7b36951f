"""What an experiment plans, chooses and keeps, and which tokens a tracker counts: planted, without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from planted import planted
from steered import chosen

from lens_emotion.errors import ArtifactError
from lens_emotion.steering.dose_result import DoseResponse, best_dose, cross_fit, load_dose_response, save_dose_response
from lens_emotion.steering.experiment import _plan
from lens_emotion.steering.hooks import Tracker
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.steering.side_effects import side_effects_of
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

VECTORS = emotion_vectors(planted(n_emotions=3, n_layers=2, signal=(3.0, 6.0)).acts)
SIZED = EmotionVectors(
    VECTORS.directions, VECTORS.emotions, *[VECTORS.natural * torch.tensor([1.0, 2.0, 4.0])[:, None]] * 2,
    VECTORS.residual_norm, VECTORS.header,
)  # fmt: skip
SCENARIOS = [Scenario(f"s{i}", SIZED.emotions[i % 3], f"Opening {i}.") for i in range(6)]
WHOLE = Thresholds(explosive_ratio=3.0, loop_share=0.5, distinct_2=0.4)


@pytest.mark.parametrize("seed", [0, 3])
def test_every_control_is_as_long_as_its_emotion_and_no_two_directions_are_one(seed):
    plan, conditions = _plan(SIZED, SCENARIOS, [1.0, 4.0], "natural", seed, True)
    drawn: dict[tuple[str, int], torch.Tensor] = {}
    for (_, row), condition in zip(plan.iterrows(), conditions, strict=True):
        scenario, vector = SCENARIOS[row.scenario], condition.vector
        assert (condition.prompt, condition.dose.value, condition.seed) == (scenario.opening, row.dose, row.scenario)
        assert torch.equal(vector.natural, SIZED[scenario.emotion].natural), row.condition
        assert vector.name == row.steered and (vector.name == scenario.emotion) == (row.condition == "emotion")
        place = row.condition, int(row.scenario)
        assert torch.equal(drawn.setdefault(place, vector.direction), vector.direction)  # the same at every dose
    random = torch.stack([d.flatten() for (name, _), d in drawn.items() if name in ("random", "null")])
    cosines = torch.corrcoef(random) - torch.eye(len(random))
    assert len(random) == 12 and cosines.abs().max() < 0.95
    without, _ = _plan(SIZED, SCENARIOS, [1.0], "natural", 0, False)
    assert set(without.condition) == {"emotion", "random", "null"}


def planted_texts(success):
    """Whole texts of twenty scenarios an opening, of which as many succeed at each dose as told."""
    rows = []
    for (half, dose), hits in success.items():
        for condition in ("emotion", "random", "other"):
            for k in range(20):
                won = condition == "emotion" and k < hits
                row = {"condition": condition, "dose": dose, "scenario": 2 * k + half, "opening": half, "success": won}
                rows.append(row | {"moved": won, "nll": 1.0, "unsteered_nll": 1.0, "entropy": 1.0, "distinct_2": 0.9})
    frame = pd.DataFrame(rows).assign(loop_share=0.0, edit_distance=0.5, broken=False, text="A text.", emotion="calm")
    return frame[frame.condition != "other"], frame[frame.condition == "other"]


def test_the_dose_is_chosen_on_the_other_half_alone():
    texts, others = planted_texts({(0, 1.0): 18, (0, 4.0): 9, (1, 1.0): 10, (1, 4.0): 16})
    found = cross_fit(texts, others, WHOLE)
    assert found.table.dose.tolist() == [4.0, 1.0] and found.table.success.tolist() == [9, 10]
    assert (found.success, found.n, found.random, found.other) == (19, 40, 0, 0)


def test_of_equal_doses_the_smaller_is_taken_and_of_none_none():
    texts, _ = planted_texts({(0, 2.0): 15, (0, 1.0): 15, (0, 4.0): 12})
    assert best_dose(texts, WHOLE) == 1.0
    texts, others = planted_texts({(0, 1.0): 0, (1, 1.0): 15})
    found = cross_fit(texts, others, WHOLE)
    assert np.isnan(found.table.dose[1]) and found.n == 40 and found.success == 0  # a half without one has failed


def test_side_effects_are_against_the_control_and_do_not_cancel():
    emotions = pd.Series(["calm", "calm", "angry", "angry"])
    rows = []
    for condition, effect in (("emotion", 1), ("random", 0)):
        for i, target in enumerate(emotions):
            moves = {"calm": 0.3 * effect, "angry": 0.3 * effect, "sad": 0.2 * effect * (1 if target == "calm" else -1)}
            moves |= {("angry" if target == "calm" else "calm"): 0.0}
            rows.append({"condition": condition, "dose": 1.0, "scenario": i} | {e: 0.4 + x for e, x in moves.items()})
    found = side_effects_of(pd.DataFrame(rows), emotions, 1.0)
    assert found.target == pytest.approx(0.3) and found.spill == pytest.approx(0.1)  # 0, 0.2, 0 and -0.2
    assert found.matrix.loc["angry", "sad"] == pytest.approx(-0.2)


def test_a_result_that_was_changed_on_the_disk_is_refused(tmp_path):
    row = {"dose": 1.0, "condition": "emotion", "n": 4, "success": 2, "success_rate": 0.5, "surprise": 1.0}
    table = pd.DataFrame([row])
    empty = pd.DataFrame({"condition": ["random"], "dose": [1.0]})
    made = DoseResponse(table, empty, empty, empty, empty, 2, "a judge", 0.7, True, WHOLE, 3)
    path = save_dose_response(made, tmp_path / "a.json")
    assert load_dose_response(path).judge == "a judge"
    whole = path.read_text()
    for old, new in (('"a judge"', '"A judge"'), ("0.7", "0.8"), ('"sha256": "', '"sha256": "0'), ("3.0", "4.0")):
        assert old in whole
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(ArtifactError, match="checksum"):
            load_dose_response(path)


PLACES = ["generated", "prompt", 0, -1, 2, [0, -1], [1, -2], slice(1, 3), slice(-2, None)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", PLACES, ids=str)
def test_a_tracker_counts_real_tokens_from_0_behind_pads_and_over_passes(positions, side):
    lengths, width, new = [6, 4, 3], 6, 4
    pads = torch.tensor([[(i < width - n) if side == "left" else (i >= n) for i in range(width)] for n in lengths])
    tracker = Tracker(positions)
    (_, enter), (_, count) = tracker.hooks()
    scores = torch.zeros(3, 2, width, width).masked_fill(pads[:, None, :, None], torch.finfo(torch.float32).min)
    enter(torch.randn(3, width, 5), None)
    count(scores, None)
    seen = [tracker.steered(torch.zeros(3, width, 5))[i][~pads[i]].tolist() for i in range(3)]
    assert not tracker.steered(torch.zeros(3, width, 5))[pads].any()
    for k in range(new):
        if k == 2:
            tracker.keep(torch.tensor([2, 0]))
            lengths, seen = [lengths[2], lengths[0]], [seen[2], seen[0]]
        rows = len(lengths)
        enter(torch.randn(rows, 1, 5), None)
        count(torch.zeros(rows, 2, 1, width + k + 1), None)
        now = tracker.steered(torch.zeros(rows, 1, 5))
        seen = [row + now[i].tolist() for i, row in enumerate(seen)]
    assert seen == [chosen(positions, n, n + new) for n in lengths]
