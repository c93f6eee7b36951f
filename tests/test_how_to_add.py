"""The recipes of docs/architecture.md, followed: a steering method and a judge, each in one place.

An analysis: test_exhibits.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny

from lens_emotion.errors import DoseError
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.hooks import MODES, Edit, Intervention
from lens_emotion.steering.judges import as_judge
from lens_emotion.steering.steer import steer
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.vectors.recipes import emotion_vectors

LAYER = 3


def mirror(what: Intervention, layer: int) -> Edit:
    """h - 2 (h v) v: the projection on the vector with its sign turned."""
    return Edit(basis=2**0.5 * what.vectors[0].at(layer)[None])


def test_a_steering_method_is_a_function_and_its_name(monkeypatch, acts):
    calm, model = emotion_vectors(acts)["calm"], tiny()
    tokens = torch.tensor([encode(model, "Nora sat by the river and")])
    with (
        pytest.raises(DoseError, match="unknown mode 'mirror'; use add, ablate, clamp"),
        steer(model, calm, mode="mirror"),
    ):
        pass
    monkeypatch.setitem(MODES, "mirror", mirror)
    plain = residual_cache(model, tokens)[hook_name(LAYER)] @ calm.at(LAYER)
    with steer(model, calm, layers=LAYER, mode="mirror"):
        turned = residual_cache(model, tokens)[hook_name(LAYER)] @ calm.at(LAYER)
    torch.testing.assert_close(turned, -plain, rtol=1e-4, atol=1e-4)
    # and wherever a mode is taken: rows of a batch that differ in method
    rows = [
        Condition("Nora sat by the river and", calm, Dose(1.0), layers=LAYER, mode=mode) for mode in ("add", "mirror")
    ]
    together = generate_steered(model, rows, [LAYER], max_new_tokens=4)
    alone = [generate_steered(model, [row], [LAYER], max_new_tokens=4)[0] for row in rows]
    assert [t.new_ids for t in together] == [t.new_ids for t in alone]


def test_a_judge_is_a_function_from_texts_to_scores(acts):
    vectors = emotion_vectors(acts)

    def by_length(texts):
        long = np.array([len(t) > 120 for t in texts], dtype=float)
        return np.stack([0.5 + 0.1 * long, 0.5 - 0.1 * long], 1)

    judge = as_judge(by_length, ["calm", "angry"], name="length")
    asked = [s for s in scenarios("world-en") if s.emotion in ("calm", "angry")]
    found = dose_response(tiny(), vectors, asked, judge, doses=(2.0,), max_new_tokens=8, progress=False)
    assert found.judge == "length (accuracy not measured)" and set(found.table.condition) == {"emotion", "random"}
