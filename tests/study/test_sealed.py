"""A sealed study: written before any model is read, kept, and broken in plain sight."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import pytest
from studies import SMALL, copied
from typer.testing import CliRunner

import lens_emotion as le
from lens_emotion.cli.app import app
from lens_emotion.errors import ArtifactError
from lens_emotion.report.build import claim_rows
from lens_emotion.report.page import render_report
from lens_emotion.report.parts import RunReport, Section
from lens_emotion.run.look import verify_run
from lens_emotion.run.places import places_in
from lens_emotion.run.sealed import read_seal, sha256_of_json
from lens_emotion.run.store import MANIFEST, Store, manifest
from lens_emotion.study import pipeline, seal
from lens_emotion.study.claims import smallest as smallest_effects
from lens_emotion.study.results import StudyRun
from lens_emotion.study.verdict import BROKEN, EXPLORATORY, SEALED, STATEMENTS, Claims, SealState, untestable

CONFIG = SMALL.with_(generation=False)
CLAIMS = Claims(tuple(untestable(code, "all models", "nothing was run") for code in STATEMENTS))


class StopError(Exception):
    """Where the first model would be read."""


def stop(*_):
    raise StopError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was sealed and stopped before its first model."""
    root = tmp_path_factory.mktemp("sealed") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopError):
        patch.setattr(pipeline, "_here", stop)
        le.run_study(CONFIG, root, seal=True)
    return root


@pytest.fixture
def begun(stopped, tmp_path):
    """That run, which may be changed."""
    return shutil.copytree(stopped, tmp_path / "run")


def state(root, config=CONFIG):
    return seal.sealed_before(config, places_in(config.models, root), Store.open(root), seal=False)


def test_a_seal_holds_the_whole_design_and_is_there_before_any_model_is_read(begun):
    found = read_seal(begun)
    assert found.design == json.loads(json.dumps(asdict(CONFIG))) and found.sha256 == found.digest
    assert found.version == le.__version__ and found.date.endswith("+00:00")
    assert set(found.claims["statements"]) == set(STATEMENTS) and {"reading.py", "presets/jeong.py"} <= set(
        found.claims["code"]
    )
    assert found.smallest["C1"]["value"] == 0.1 and found.thresholds["study.verdict"]["LEVEL"] == 0.025
    assert found.thresholds["study.claims.reading"]["MIDDLE"] == [1 / 3, 2 / 3]
    assert {row["claim"] for row in found.power} == set(STATEMENTS)
    assert set(found.models["tiny-llama"]["texts"]) == {"comprehension", "controls", "steering"}
    assert json.loads((begun / MANIFEST).read_text())["seal"] == found.sha256
    assert not list(begun.glob("*/*/step.json"))


def test_going_on_keeps_the_seal_to_the_byte(begun, monkeypatch):
    monkeypatch.setattr(pipeline, "_here", stop)
    before = (begun / "sealed.json").read_bytes()
    with pytest.raises(StopError):
        le.run_study(CONFIG, begun, seal=True)
    assert (begun / "sealed.json").read_bytes() == before
    assert state(begun).status == SEALED and state(begun).marked(CLAIMS).claims[0].sealed == SEALED


CHANGED = {  # what is another now, and what must be said
    "doses": (lambda c: c.with_(doses=(2.0,)), "settings.doses: sealed [3.0,8.0], now [2.0]"),
    "seed": (lambda c: c.with_(seed=3), "settings.seed: sealed 0, now 3"),
    "permutations": (lambda c: c.with_(n_permutations=21), "settings.n_permutations: sealed 20, now 21"),
    "smallest": (lambda c: c.with_(smallest={"C1": 0.2}), "smallest.C1.value: sealed 0.1, now 0.2"),
    "emotions": (lambda c: c.with_(emotions=("calm", "happy")), "texts.comprehension: sealed"),
    "texts": (lambda c: c.with_(stimuli="passages"), "texts.comprehension: sealed"),
    "one model more": (lambda c: c.with_(models=("tiny-llama", "tiny-gpt2")), "models.tiny-gpt2: sealed nothing"),
    "another model": (lambda c: c.with_(models=("tiny-gpt2",)), "models.tiny-llama: sealed present, now nothing"),
    "of one model": (lambda c: c.with_(overrides={"tiny-llama": {"doses": (1.0,)}}), "settings.doses: sealed"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_design_breaks_the_seal_and_says_where(begun, what):
    change, said = CHANGED[what]
    before = (begun / "sealed.json").read_bytes()
    found = state(begun, change(CONFIG))
    assert found.status == BROKEN and any(said in line for line in found.broken), found.broken
    assert found.line().startswith("Seal broken: ") and "\n" not in found.line()
    assert {c.sealed for c in found.marked(CLAIMS).claims} == {BROKEN}
    assert (begun / "sealed.json").read_bytes() == before


def test_changed_rules_thresholds_and_settings_to_come_break_it_too(begun, monkeypatch):
    monkeypatch.setattr(seal, "rules", lambda: {"reading.py": "0" * 64})
    monkeypatch.setattr("lens_emotion.study.verdict.LEVEL", 0.05)
    found = state(begun)
    assert any("claims.code.reading.py: sealed" in line for line in found.broken)
    assert "thresholds.study.verdict.LEVEL: sealed 0.025, now 0.05" in found.broken


def test_a_setting_or_a_claim_that_comes_later_is_taken_in_without_a_change_here(begun, monkeypatch):
    now = {"models": {"m": {"settings": {"seed": 0, "protocol": "both"}}}}
    (line,) = seal.changes({"models": {"m": {"settings": {"seed": 0}}}}, now)
    assert line == 'settings.protocol: sealed nothing, now "both"'
    monkeypatch.setitem(STATEMENTS, "X9", "of a later version")
    later = Claims((*CLAIMS.claims, untestable("X9", "all models", "nothing was run")))
    marked = {c.code: c.sealed for c in state(begun).marked(later).claims}
    assert marked["X9"] == EXPLORATORY and marked["C1"] == BROKEN
    assert any("claims.statements.X9: sealed nothing" in line for line in state(begun).broken)


def edited(root, **parts):
    facts = json.loads((root / "sealed.json").read_text()) | parts
    (root / "sealed.json").write_text(json.dumps(facts))


def rehashed(root):
    facts = json.loads((root / "sealed.json").read_text()) | {"date": "2020-01-01T00:00:00+00:00"}
    own = {k: v for k, v in facts.items() if k != "sha256"}
    (root / "sealed.json").write_text(json.dumps(own | {"sha256": sha256_of_json(own)}))


HURT = {
    "edited": (lambda r: edited(r, version="9"), "was changed since it was written"),
    "an unknown field": (lambda r: edited(r, more=1), "unknown fields"),
    "no date": (lambda r: edited(r, date="soon"), "no date"),
    "another type": (lambda r: edited(r, models=[]), "models is"),
    "edited, and the hash made anew": (rehashed, "is another one"),
    "gone": (lambda r: (r / "sealed.json").unlink(), "is gone"),
    "cut off": (lambda r: (r / "sealed.json").write_text('{"date": "20'), "cannot read"),
    "a folder": (lambda r: ((r / "sealed.json").unlink(), (r / "sealed.json").mkdir()), "is a folder"),
    "another's": (lambda r: (r / "sealed.json").write_text("[]"), "not an object"),
}


@pytest.mark.parametrize("how", HURT)
def test_a_seal_that_was_tampered_with_is_told_and_never_mended(begun, how):
    hurt, said = HURT[how]
    hurt(begun)
    found = state(begun)
    assert found.status == BROKEN and said in found.line() and "\n" not in found.line()
    assert any(d.path.name == "sealed.json" for d in verify_run(begun).damages)
    assert state(begun).status == BROKEN, "it was mended"


def test_a_folder_that_holds_readings_is_not_sealed(studied, tmp_path):
    run = copied(studied, tmp_path / "run")
    with pytest.raises(ArtifactError, match=r"6 stored steps.*--out.*--seal") as told:
        le.run_study(SMALL, run.folder, seal=True)
    assert "\n" not in str(told.value)


def test_a_plan_says_what_becomes_of_the_seal(begun, studied, tmp_path):
    def planned(*words):
        return CliRunner().invoke(app, ["study", "tiny-llama", "--plan", *map(str, words)])

    fresh = planned("--seal", "--out", tmp_path / "new")
    assert fresh.exit_code == 0 and "before a model is read" in " ".join(fresh.stdout.split())
    assert not (tmp_path / "new").exists(), "a plan wrote something"
    assert "seal" not in planned("--out", tmp_path / "new").stdout.lower()
    assert "Seal broken" in planned("--out", begun).stdout, "another design"
    run = copied(studied, tmp_path / "read")
    assert "made after the data" in str(planned("--seal", "--out", run.folder).exception)


@pytest.mark.parametrize("left", ["tiny-llama/.partial/comprehension-0123456789abcdef.journal", "claims.json"])
def test_neither_is_one_with_a_step_begun_or_verdicts(tmp_path, left):
    (path := tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="made after the data"):
        seal.sealed_before(CONFIG, (), Store(tmp_path), seal=True)


def test_an_unsealed_run_is_exploratory_and_its_manifest_is_as_it_was(studied, tmp_path):
    assert studied.seal.status == EXPLORATORY and set(studied.claims.table.sealed) == {EXPLORATORY}
    facts = manifest(SMALL, "", [], 0.0, {})
    assert "seal" not in facts and not (tmp_path / "sealed.json").exists()


def page(status, broken=()):
    """The page of a run whose seal is in this state."""
    made = SealState(status, "2026-11-27", "f" * 64, broken, frozenset(STATEMENTS))
    rows = claim_rows(StudyRun("", {}, (), made.marked(CLAIMS), seal=made))
    shown = "" if status == EXPLORATORY else status
    parts = {"claims": rows, "over_models": (Section("Further results", "one"),), "seal": made.line(), "sealed": shown}
    return render_report(RunReport("t", "d", "c", [], (), {}, **parts))


def test_the_report_marks_claims_as_sealed_and_all_else_as_exploratory():
    body = page(SEALED)
    assert body.count('class="seal-tag is-sealed"') == len(STATEMENTS)
    assert body.count('class="seal-tag is-exploratory">exploratory') == 2  # the summary and the section
    assert "Sealed 2026-11-27, before any model was read" in body


def test_the_report_of_a_broken_seal_says_what_changed():
    body = page(BROKEN, ("settings.seed: sealed 0, now <b>3",))
    assert "Seal broken: settings.seed: sealed 0, now &lt;b&gt;3." in body
    assert body.count('class="seal-tag is-broken">seal broken') == len(STATEMENTS)


def test_the_report_of_an_unsealed_run_says_so_once():
    body = page(EXPLORATORY)
    assert body.count("Exploratory: no design was sealed") == 1 and 'class="seal-tag' not in body


def test_the_smallest_effects_of_a_seal_are_those_of_the_package(begun):
    assert set(read_seal(begun).smallest) == set(smallest_effects.SMALLEST)


def test_where_the_models_are_gone_only_rules_and_settings_are_compared(begun):
    assert seal.state_of(begun, CONFIG, names=("tiny-llama",)).status == SEALED
    gone = CONFIG.with_(seed=5, models=("/nowhere/model",))
    assert seal.state_of(begun, gone, names=("tiny-llama",)).broken == ("settings.seed: sealed 0, now 5",)


def test_claims_of_a_run_carry_the_mark_into_their_tables():
    marked = replace(CLAIMS, claims=tuple(replace(c, sealed=SEALED) for c in CLAIMS.claims))
    assert set(marked.table["sealed"]) == {SEALED} and {row["sealed"] for row in marked.to_json()} == {SEALED}
