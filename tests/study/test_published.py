"""A study under both protocols: verdicts side by side, what parts them, and older runs without the published step."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from planted import planted
from studies import SMALL, copied

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.layers import decoding_sweep
from lens_emotion.presets.jeong import best_layer
from lens_emotion.presets.protocol import PROTOCOL
from lens_emotion.run import inputs
from lens_emotion.run.config import ConfigError, StudyConfig
from lens_emotion.study.claims import published
from lens_emotion.study.claims.reading import middle_layers
from lens_emotion.study.plan import plan_study
from lens_emotion.study.results import PublishedStudy
from lens_emotion.study.stored import read_run
from lens_emotion.study.verdict import ALL_MODELS, NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        ("ours", ("comprehension", "controls", "steering")),
        ("published", ("comprehension", "controls", "published")),
        ("both", ("comprehension", "controls", "steering", "published")),
    ],
)
def test_a_protocol_has_its_steps(protocol, steps) -> None:
    assert StudyConfig(models=("tiny-llama",), generation=False, protocol=protocol).steps == steps
    assert "published" not in replace(SMALL, steering=False, protocol=protocol).steps


def test_another_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="protocol"):
        StudyConfig(protocol="theirs")


def test_noise_is_supported_by_the_published_rule_and_not_by_ours(untyped) -> None:
    acts = planted(n_emotions=20, n_layers=9, d_model=48, signal=0.0, n_topics=4, seed=3).acts
    acts = planted(n_emotions=20, n_layers=9, d_model=48, signal=0.0, n_topics=4, seed=4).acts
    layers = best_layer(replace(acts, header=acts.header.with_(pooling="last_token")), n_permutations=40)
    assert layers.p > 0.05  # its lowest layer falls into the middle third, as that of every third world does
    sweep = decoding_sweep(decoding(acts, n_permutations=40), 0)
    ours = middle_layers("planted", sweep)
    study = PublishedStudy(layers, None, {}, None, None, {"anisotropy at 50% depth": 0.4})
    model = SimpleNamespace(comprehension=SimpleNamespace(sweep=sweep))
    assert ours.verdict == UNDETERMINED
    for code, rule in (("C2", published._c2), ("C3", published._c3), ("C4", published._c4)):
        row = published._judged(code, "planted", rule(model, study), ours.verdict)
        assert row.published == SUPPORTED and "ermuted labels" in row.control and row.difference
    assert "at its bound" in published._judged("C2", "planted", published._c2(model, study), ours.verdict).difference


def test_every_claim_has_both_verdicts_and_a_control(studied) -> None:
    table = studied.protocols.table
    assert list(dict.fromkeys(table.code)) == list(published.CODES)
    assert set(table.scope) == {"tiny-llama", ALL_MODELS}
    tested = table[table.published != NOT_TESTABLE]
    assert tested.control.str.len().min() > 5 and table.inferred.str.len().min() > 3 and len(tested) > 8
    ours = {(c.code, c.scope): c.verdict for c in studied.claims.claims}
    assert [ours.get((r.code, r.scope), NOT_TESTABLE) for r in table.itertuples()] == table.ours.tolist()
    parted = tested[tested.published != tested.ours]
    assert parted.difference.str.len().min() > 5 and not tested[tested.published == tested.ours].difference.any()
    assert set(studied.protocols.numbers.status) == {NOT_TESTABLE}  # a toy reproduces nothing
    kept = pd.read_csv(Path(studied.folder) / "tables" / "protocols.csv", keep_default_na=False)
    assert kept.equals(table.astype(str))
    assert "by ours" in studied.protocols.summary()


def test_what_a_model_has_by_the_published_protocol(studied) -> None:
    found = studied.models[0].published
    assert set(found.steering.table.condition) == {"emotion", "random"}
    assert found.steering.layer == "all" and sorted(set(found.steering.table.dose)) == [0.01, 0.015, 0.02, 0.025, 0.03]
    assert set(found.regimes) == {"emotion", "random", "unsteered"}
    assert found.suppression.table.prompt.nunique() == 6 and found.suppression.layer == found.layers.layer
    assert {"random", "emotion"} <= set(found.leakage.table.condition)
    assert "mean cosine, writing" in found.cosines and "cosine calm/desperate" in found.cosines
    tables = Path(studied.folder) / "tiny-llama" / "tables"
    names = {"layers", "steering", "texts", "regimes", "suppression", "leakage", "leakage_scripts"}
    assert {f"published_{name}" for name in names} <= {p.stem for p in tables.iterdir()}


def test_the_step_is_stored_and_planned(studied, monkeypatch) -> None:
    (planned,) = plan_study(SMALL, studied.folder).models
    assert {s.name: s.state for s in planned.steps}["published"] == "stored"
    other = plan_study(SMALL.with_(seed=1), studied.folder).models[0]
    assert {s.name: s.state for s in other.steps}["published"] == "to run"
    monkeypatch.setattr(inputs, "PROTOCOL", replace(PROTOCOL, passages=4))  # any constant, not only the doses
    (changed,) = plan_study(SMALL, studied.folder).models
    assert {s.name: s.state for s in changed.steps}["published"] == "to run"


def test_a_run_from_before_the_step_is_read_and_judged_as_far_as_it_goes(studied, tmp_path) -> None:
    before = copied(studied, tmp_path / "before")
    shutil.rmtree(Path(before.folder) / "tiny-llama" / "published")
    back = read_run(before.folder)
    rows = {(r.code, r.scope): r for r in back.protocols.rows}
    mine = {(r.code, r.scope): r for r in studied.protocols.rows}
    assert rows["C2", "tiny-llama"] == mine["C2", "tiny-llama"] and rows["C1", ALL_MODELS] == mine["C1", ALL_MODELS]
    assert rows["C5", "tiny-llama"].published == NOT_TESTABLE and "not run" in rows["C5", "tiny-llama"].number


@pytest.mark.parametrize(
    ("published", "ours", "made", "left"),
    [
        (SUPPORTED, NOT_TESTABLE, "none", "none"),  # what was not run parts nothing
        (SUPPORTED, NOT_SUPPORTED, "C1", "none"),
        (NOT_SUPPORTED, SUPPORTED, "C1", "none"),
        (NOT_SUPPORTED, UNDETERMINED, "none", "C1"),  # "could not tell" is no other verdict
        (NOT_TESTABLE, UNDETERMINED, "none", "none"),
        (SUPPORTED, SUPPORTED, "none", "none"),
    ],
)
def test_what_parts_the_protocols_in_a_line(studied, published, ours, made, left) -> None:
    row = next(r for r in studied.protocols.rows if (r.code, r.scope) == ("C1", ALL_MODELS))
    said = replace(studied.protocols, rows=(replace(row, published=published, ours=ours, difference="x"),)).summary()
    assert said.endswith(f"makes the difference in {made}; they decide what ours leaves open in {left}")
