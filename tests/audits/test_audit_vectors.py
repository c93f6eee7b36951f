"""Checks of vectors, of readings and of doses: planted faults are found, and what is sound passes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from asked import NAMES, asked, random_set, reading
from planted import planted

from lens_emotion.audits.doses import norms_of
from lens_emotion.audits.reading import subject_of
from lens_emotion.audits.subject import P_OF_DECODERS, Arm, Subject
from lens_emotion.vectors.recipes import emotion_vectors


def broken(value: float, layer: int = 1) -> np.ndarray:
    rows = random_set()
    rows[:, layer:, 3] = value
    return rows


def centred() -> np.ndarray:
    rows = random_set()
    return rows - rows.mean(0)


def along_one(size: float) -> np.ndarray:
    return random_set() + size


def norms(first: float, unit: float | None = None) -> Subject:
    return Subject("norms", norms=(norms_of([[first, *[20.0] * 9], [first, *[20.0] * 9]], unit),))


def single_tokens(inflated: float):
    """Readings of one token each, whose E||h|| is what it should be, or more."""
    acts = planted(4, 6).acts
    records = tuple(replace(r, n_pooled=1, n_skipped=3) for r in acts.records)
    return replace(acts, records=records, residual_norm=acts.values.norm(dim=-1).mean(0) * inflated)


def pushes(fades: float) -> pd.DataFrame:
    tokens = np.array([8, 16, 32, 64])
    return pd.DataFrame({"prompt_tokens": tokens, "push": 5.0 + fades / tokens, "dose": 0.03})


def along(first: float, unit: float) -> pd.DataFrame:
    return pd.DataFrame({"position": range(9), "norm": [first, *[20.0] * 8], "unit": unit})


def two_halves(same: bool, seed: int = 1) -> dict[str, dict[str, np.ndarray]]:
    shared = random_set()
    sides = [(shared if same else 0) + random_set(seed=seed + k) for k in range(2)]
    return {f"half {k}": dict(zip(NAMES, rows, strict=True)) for k, rows in enumerate(sides)}


def retold(acts):
    """Other texts, so that no noise is shared."""
    return replace(acts, records=tuple(replace(r, text=f"retold {r.text}") for r in acts.records))


def sized(*sizes: tuple[float, float]) -> pd.DataFrame:
    """Models with a size in raw units and one norm each."""
    return pd.DataFrame([{"model": f"m{i}", "magnitude": a, "norm": b} for i, (a, b) in enumerate(sizes)])


FOUND, PASSED, UNASKED = "found", "passed", "not asked"


@pytest.mark.parametrize(
    ("check", "given", "status", "severity"),
    [
        ("overflow", broken(np.nan), FOUND, "critical"),
        ("overflow", broken(np.inf), FOUND, "critical"),
        ("overflow", broken(65504.0), FOUND, "major"),
        ("overflow", broken(103_795.0), FOUND, "minor"),
        ("overflow", random_set(), PASSED, ""),
        ("overflow", pd.DataFrame({"layer": range(8), "cosine": [0.4] * 4 + [np.nan] * 4}), FOUND, "critical"),
        ("overflow", pd.DataFrame({"layer": range(8), "cosine": [0.4] * 8}), PASSED, ""),
        ("cosine-bound", centred(), FOUND, "minor"),
        ("cosine-bound", random_set(), PASSED, ""),
        ("cosine-bound", along_one(3.0), PASSED, ""),
        ("cosine-bound", random_set(1), UNASKED, ""),
        ("cosine-bound", centred()[..., :6], UNASKED, ""),  # so few dimensions come as near by chance
        ("cosine-bound", np.stack([random_set(1)[0], -random_set(1)[0]]), FOUND, "minor"),
        ("noise", reading(4.0), PASSED, ""),
        ("noise", reading(0.0), FOUND, "critical"),
        ("noise", reading(0.2), FOUND, "minor"),
        ("noise", planted(4, 1).acts, UNASKED, ""),
        ("noise", random_set(), UNASKED, ""),
        ("noise", two_halves(True), PASSED, ""),
        ("noise", two_halves(False), FOUND, "major"),
        ("noise", {k: dict(list(v.items())[:3]) for k, v in two_halves(True).items()}, UNASKED, ""),
        ("noise", pd.DataFrame({"layer": [1, 2], "reliability": [0.1, 0.2]}), FOUND, "major"),
        ("noise", pd.DataFrame({"layer": [1, 2], "reliability": [0.1, 0.8]}), PASSED, ""),
        ("noise-ceiling", [reading(0.75), reading(0.75, seed=3, variant="other")], FOUND, "minor"),
        ("noise-ceiling", [reading(0.2), reading(0.2, seed=3, variant="other")], FOUND, "major"),
        ("noise-ceiling", [reading(6.0), reading(6.0, seed=3, variant="other")], PASSED, ""),
        ("noise-ceiling", [reading(0.75), retold(planted(6, 8, signal=0.75, d_model=48, seed=9).acts)], PASSED, ""),
        ("noise-ceiling", reading(4.0), UNASKED, ""),
        ("noise-ceiling", pd.DataFrame({"cosine": [0.03], "r1": [0.2], "r2": [0.1]}), FOUND, "major"),
        ("noise-ceiling", pd.DataFrame({"cosine": [0.6], "r1": [0.6], "r2": [0.7]}), FOUND, "minor"),
        ("noise-ceiling", pd.DataFrame({"cosine": [0.16], "r1": [0.9], "r2": [0.9]}), PASSED, ""),
        ("noise-ceiling", pd.DataFrame({"cosine": [0.99], "r1": [0.99], "r2": [0.99]}), PASSED, ""),
        ("noise-ceiling", pd.DataFrame({"cosine": [0.03], "r1": [0.2]}), UNASKED, ""),
        ("first-token", norms(1292.0, 147.2), FOUND, "major"),
        ("first-token", norms(1292.0, 20.0), PASSED, ""),
        ("first-token", norms(1292.0), FOUND, "minor"),
        ("first-token", norms(21.0), PASSED, ""),
        ("first-token", single_tokens(1.0), PASSED, ""),
        ("first-token", single_tokens(1.9), FOUND, "major"),
        ("first-token", planted(4, 6).acts, UNASKED, ""),  # means of tokens
        ("first-token", along(900.0, 118.0), FOUND, "major"),
        ("first-token", along(20.0, 20.0), PASSED, ""),
        ("prompt-length", norms(1292.0, 147.2), FOUND, "major"),
        ("prompt-length", norms(20.0, 20.0), PASSED, ""),
        ("prompt-length", pushes(80.0), FOUND, "major"),
        ("prompt-length", pushes(0.0), PASSED, ""),
        ("prompt-length", pushes(80.0)[:2], UNASKED, ""),
        ("raw-units", sized((18.0, 90.0), (1.0, 5.5)), FOUND, "major"),
        ("raw-units", sized((18.0, 5.0), (1.0, 0.28)).drop(columns="norm"), FOUND, "major"),
        ("raw-units", sized((1.0, 90.0), (1.1, 91.0)), PASSED, ""),
        ("raw-units", sized((18.0, 90.0)), UNASKED, ""),
    ],
)  # fmt: skip
def test_a_fault_is_found_and_what_is_sound_passes(check, given, status, severity) -> None:
    outcome = asked(check, given)
    assert outcome.status == status, outcome
    assert ([f.severity for f in outcome.faults][:1] or [""])[0] == severity, outcome.faults


def test_how_much_a_first_token_moves_the_dose() -> None:
    """Qwen2.5-0.5B: 1,292 in front of tokens of 19.8; over ten tokens the unit is 147."""
    (fault,) = asked("first-token", norms(1292.0, 147.2)).faults
    assert fault.moves == pytest.approx(147.2 / 20)
    (fault,) = asked("prompt-length", norms(1292.0, 147.2)).faults
    assert fault.moves == pytest.approx((1292 + 9 * 20) / 10 / ((1292 + 99 * 20) / 100))


def test_the_published_sweep_lies_at_its_bound() -> None:
    """-.0455 to -.0492 for 21 classes: nothing but .0037 is left to choose a best layer by."""
    cosines = np.linspace(-0.0455, -0.0492, 24)
    frame = pd.DataFrame({"layer": range(24), "mean_cosine": cosines})
    for options in ({"n_emotions": 21}, {}):
        (fault,) = asked("cosine-bound", frame, **options).faults
        assert fault.severity == "major" and "21 classes" in fault.what and fault.moves == pytest.approx(0.0037)
    for best in (23, [k == 23 for k in range(24)]):
        (fault,) = asked("cosine-bound", frame.assign(best_layer=best)).faults
        assert fault.severity == "critical" and "best layer, 23" in fault.what
    assert asked("cosine-bound", frame.assign(best_layer=3)).faults[0].severity == "major"
    assert asked("cosine-bound", frame.assign(mean_cosine=np.linspace(0.1, 0.5, 24))).status == PASSED
    assert asked("cosine-bound", frame.assign(mean_cosine=np.linspace(-0.3, 0.2, 24))).status == UNASKED


def test_the_same_texts_in_another_precision_share_their_noise() -> None:
    acts = reading(4.0)
    same = replace(acts, header=acts.header.with_(dtype="float16"))
    assert asked("noise-ceiling", [acts, same]).status == PASSED
    shuffled = replace(same, values=same.values.flip(0).contiguous())
    (fault,) = asked("noise-ceiling", [acts, shuffled]).faults
    assert fault.severity == "major" and "dtype" in fault.what


def test_vectors_of_two_models_in_raw_units() -> None:
    vectors = emotion_vectors(planted(4, 6).acts, "centred")
    other = replace(vectors, header=vectors.header.with_(model="other", fingerprint="1" * 64))
    larger = replace(other, norms=other.norms * 50, natural=other.natural * 50, residual_norm=other.residual_norm * 50)
    assert asked("raw-units", [vectors, other]).status == PASSED
    (fault,) = asked("raw-units", [vectors, larger]).faults
    assert fault.severity == "minor" and fault.moves == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize("known", [False, True])
def test_too_few_shuffles_for_any_p_are_no_noise(known):
    acts = reading(3.0)
    p = pd.DataFrame({"reliability": [0.97]} | {name: [1 / 21] for name in P_OF_DECODERS})
    arm = Arm("clean", acts, "m", p if known else None, n_permutations=20 if known else 10)
    found = asked("noise", Subject("clean", arms=(arm,)))
    assert found.status == UNASKED and "so few" in found.words
    alike = replace(arm, known=p * 4) if known else replace(arm, acts=reading(0.0))
    assert asked("noise", Subject("noise", arms=(alike,))).status == FOUND


@pytest.mark.parametrize("layers", [[0], [1], "all"])
def test_a_layer_of_nan_does_not_make_noise_of_the_others(layers):
    acts = reading(3.0)
    acts = replace(acts, values=acts.values.repeat(1, 3, 1), residual_norm=acts.residual_norm.repeat(3))
    acts.values[:, slice(None) if layers == "all" else layers] = float("nan")
    found = asked("noise", acts)
    assert found.status == (UNASKED if layers == "all" else PASSED), found.words


def test_vectors_of_another_tool_by_emotion_have_a_name():
    vector = SimpleNamespace(layer_activations={1: np.ones(4), 2: np.arange(4.0)})  # as of steering-vectors
    assert subject_of({"calm": vector, "sad": vector}).name == "2 parts"
