"""What a design finds, said before it is run: the formula against planted worlds, needed sizes, a pilot's spread."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.verdict_cases import LEAST, PLAIN
from benchmarks.verdict_steering import c5
from benchmarks.verdict_worlds import Steered, states, step
from lens_emotion.analysis.matched import alike, topic_accuracy, weighed
from lens_emotion.cli.app import app
from lens_emotion.errors import LensEmotionError
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.store import Store, manifest
from lens_emotion.study.power import ASSUMED, Spread, draws_needed, least, mean_power, power_of, spreads_in
from lens_emotion.study.verdict import STATEMENTS, SUPPORTED

SMOLLM = StudyConfig(models=("smollm2",))


def of(found, code):
    return found.table.set_index("claim").loc[code]


@pytest.mark.parametrize(("n", "each"), [(20, 2), (20, 4), (10, 2), (6, 8)])
def test_predicted_power_over_two_controls_is_the_simulated_one(n, each):
    """Scores of texts with noise 1 under an emotion's vector and two controls; both gains must lie above 0."""
    rng, effect, between = np.random.default_rng(0), 0.8, 0.2
    shape = (3, 4000, n, each)  # condition, draw, emotion, opening
    own, *controls = rng.standard_normal(shape).mean(-1)
    own = own + effect + between * rng.standard_normal((4000, n))
    gains = [own - control for control in controls]
    bound = student.ppf(0.975, n - 1)
    shown = np.all([g.mean(1) > bound * g.std(1, ddof=1) / np.sqrt(n) for g in gains], axis=0)
    predicted = mean_power(effect, np.sqrt(2 / each + between**2), n, both=True)
    assert predicted == pytest.approx(shown.mean(), abs=0.03)


def test_predicted_power_of_c5_is_that_of_planted_worlds():
    claims = [c5(Steered(own=step(0.8)))(900 + seed) for seed in range(12)]
    errors = [c.rests_on.error for c in claims]
    assert np.sqrt(20 * np.mean(np.square(errors))) == pytest.approx(ASSUMED["C5"].value, rel=0.2)
    gain = 0.8 / np.sqrt(1.25)  # in SDs of the judge's scores, of which openings have a part of their own
    predicted = mean_power(gain, ASSUMED["C5"].value, 20, both=True)
    assert abs(predicted - np.mean([c.verdict == SUPPORTED for c in claims])) <= 0.25  # twelve draws scatter by .12


def test_predicted_power_of_c1_is_that_of_planted_worlds():
    small = [replace(w, n_layers=1, n_topics=8) for w in (LEAST, PLAIN)]
    found = []
    for seed in range(24):
        sets = alike(*(states(w, 100 * seed + k) for k, w in enumerate(small)))
        found.append(weighed(tuple(zip((1, -1), [topic_accuracy(x, 0) for x in sets], strict=True)), 0))
    spread = float(np.sqrt(np.mean([e.error**2 * e.n for e in found])))
    predicted = mean_power(float(np.mean([e.value for e in found])), spread, 8, widened=True)
    assert abs(predicted - np.mean([e.low > 0 for e in found])) <= 0.2  # 24 draws scatter by .1


def test_the_needed_numbers_are_the_smallest_that_have_the_power():
    found = power_of(SMOLLM)
    row = of(found, "C1")
    spread, here = float(row.spread), int(row.here)
    assert mean_power(0.1, spread, int(row.needed), widened=True) >= 0.8
    assert mean_power(0.1, spread, int(row.needed) - 1, widened=True) < 0.8
    assert mean_power(float(row.finds), spread, here, widened=True) == pytest.approx(0.8, abs=1e-3)
    more = ASSUMED["C1"].at(float(row.needed_each))
    assert mean_power(0.1, more, here, widened=True) >= 0.8


def test_more_of_anything_finds_more():
    at = [mean_power(0.1, 0.1, n) for n in range(3, 40)]
    assert at == sorted(at) and mean_power(0.1, 0.0, 5) == 1.0 and mean_power(0.1, 0.1, 2) == 0.0
    assert mean_power(0.5, 1.0, 20, both=True) < mean_power(0.5, 1.0, 20)
    assert Spread(1.0, 2, shared=0.3).at(1e9) == pytest.approx(0.3) and Spread(1.0, 2).at(8) == pytest.approx(0.5)
    assert np.isnan(least(lambda n: 0.0, 0.8, 1)) and least(lambda n: float(n >= 37), 0.8, 3) == 37


def test_permutations_lose_less_than_a_hundredth_of_the_power():
    rng, n = np.random.default_rng(0), int(draws_needed(0.8))
    z = rng.standard_normal(200_000) + 1.6449 + 0.8416
    hits = rng.binomial(n, norm.sf(z))
    assert (1 + n) % 20 == 0 and np.mean((1 + hits) / (1 + n) <= 0.05) > 0.785
    assert draws_needed(0.9) >= 19


def test_the_design_is_read_off_texts_and_openings():
    whole, few = power_of(SMOLLM), power_of(SMOLLM.with_(emotions=("calm", "happy", "sad")))
    assert (whole.sizes.topics, whole.sizes.texts, whole.sizes.emotions, whole.sizes.openings) == (12, 20, 20, 2)
    assert (few.sizes.texts, few.sizes.emotions) == (3, 3)
    assert of(few, "C1").power < of(whole, "C1").power and of(few, "C5").power < of(whole, "C5").power
    assert set(whole.table.claim) == set(STATEMENTS) and (whole.table.assumed != "").all()
    assert of(power_of(SMOLLM.with_(smallest={"C1": 0.3})), "C1").power > of(whole, "C1").power
    assert of(whole, "C7").needed > 40 and "C1" in whole.summary()


@pytest.fixture
def pilot(tmp_path):
    """A run folder with a table of claims, as a study writes it."""
    store = Store.open(tmp_path / "pilot")
    store.json("manifest.json", manifest(SMOLLM, "", [], 0.0, {}, done=False))
    rows = [("C1", "a", 12, 0.05), ("C1", "b", 12, 0.07), ("C1", "all models", 12, 9.0), ("C5", "a", 20, np.nan)]
    table = pd.DataFrame(rows, columns=["code", "scope", "units", "error"])
    store.table("claims", table)
    return store.root


def test_a_pilot_gives_its_own_spread_and_the_rest_is_assumed(pilot):
    assert spreads_in(pilot)["C1"].value == pytest.approx(0.06 * np.sqrt(12)) and set(spreads_in(pilot)) == {"C1"}
    found = power_of(pilot)
    assert of(found, "C1").spread == pytest.approx(0.06 * np.sqrt(12)) and "this pilot's" in of(found, "C1").assumed
    assert "planted worlds" in of(found, "C5").assumed
    less = power_of(SMOLLM.with_(emotions=("calm", "happy", "sad", "angry", "afraid")), pilot)
    assert of(less, "C1").spread == pytest.approx(0.06 * np.sqrt(12) * 2)  # a quarter of the texts a topic


def test_an_older_run_without_errors_is_no_pilot_but_a_design(pilot):
    table = pd.read_csv(pilot / "tables" / "claims.csv").drop(columns=["units", "error"])
    table.to_csv(pilot / "tables" / "claims.csv", index=False)
    assert spreads_in(pilot) == {} and of(power_of(pilot), "C1").spread == ASSUMED["C1"].value


def test_a_pilot_at_its_ceiling_is_doubted(pilot):
    table = pd.read_csv(pilot / "tables" / "claims.csv").assign(error=0.001)
    table.to_csv(pilot / "tables" / "claims.csv", index=False)
    assert "ceiling" in of(power_of(pilot), "C1").assumed


WRONG = {
    "power": lambda: power_of(power=8),
    "a truth value": lambda: power_of(power=True),
    "no run": lambda: power_of("runs/nowhere"),
    "an unknown claim": lambda: power_of(SMOLLM.with_(smallest={"C2": 0.1})),
    "an unknown emotion": lambda: power_of(SMOLLM.with_(emotions=("calm", "hungry"))),
    "a pilot that is none": lambda: power_of(SMOLLM, "runs/nowhere"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_design_is_one_typed_line(what):
    with pytest.raises(LensEmotionError) as told:
        WRONG[what]()
    assert str(told.value) and "\n" not in str(told.value)


def test_the_command_prints_a_row_a_claim_and_writes_json(tmp_path, pilot):
    out = tmp_path / "power.json"
    done = CliRunner().invoke(app, ["power", "smollm2-135m", "--emotions", "calm,happy,sad", "--json", str(out)])
    assert done.exit_code == 0 and all(code in done.stdout for code in STATEMENTS)
    facts = json.loads(out.read_text())
    assert facts["sizes"]["emotions"] == 3 and [row["claim"] for row in facts["claims"]] == list(STATEMENTS)
    assert facts["claims"][1]["needed"] is None
    done = CliRunner().invoke(app, ["power", str(pilot), "--permutations", "77"])
    assert done.exit_code == 0 and "this pilot's" in done.stdout


@pytest.mark.parametrize("name", ["nonsense", "tiny-lama", "models/gone.gguf"])
def test_the_command_takes_no_model_that_is_none(name):
    found = CliRunner().invoke(app, ["power", name])
    assert isinstance(found.exception, LensEmotionError) and name in str(found.exception) and not found.stdout


def test_no_model_and_no_torch_is_loaded():
    code = "import sys, lens_emotion as le; le.power_of(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_design_of_one_emotion_is_refused():
    with pytest.raises(LensEmotionError, match="two or more"):
        power_of(replace(SMOLLM, emotions=("calm",)))


@pytest.mark.parametrize("names", ["{run} tiny-llama", "tiny-llama {run}", "{run}x", "./gone", "~/gone"])
def test_a_run_folder_that_is_gone_or_beside_models_is_told(tmp_path, names):
    (tmp_path / "manifest.json").write_text("{}")
    found = CliRunner().invoke(app, ["power", *names.format(run=tmp_path).split()])
    said = "beside others" if " " in names else "is not there"
    assert isinstance(found.exception, LensEmotionError) and said in str(found.exception)
