"""Runs that are killed and resumed, listed, verified and compared; and what `--plan` says before and after a study."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from studies import SMALL, copied

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no part of the package

from benchmarks import kill_resume
from lens_emotion.cli.app import main
from lens_emotion.cli.runs import prune
from lens_emotion.errors import ArtifactError
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.look import compare_runs, compare_tables, list_runs, spare_in, verify_run
from lens_emotion.study import one_model as outcome
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.plan import measured_in, plan_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(studied, tmp_path_factory):
    """A small study, not to be changed, alone in its folder."""
    return Path(copied(studied, tmp_path_factory.mktemp("runs") / "first").folder)


@pytest.fixture
def copy(study, tmp_path):
    return Path(shutil.copytree(study, tmp_path / "copy"))


@pytest.fixture
def run(capsys, monkeypatch):
    """The command line inside this process, 80 columns wide."""
    from lens_emotion.cli import say

    monkeypatch.setenv("COLUMNS", "80")

    def call(*args):
        monkeypatch.setattr(say, "out", say.Console(highlight=False, width=80))
        monkeypatch.setattr(sys, "argv", ["lens-emotion", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=stopped.value.code or 0, stdout=printed.out, stderr=printed.err)

    return call


@pytest.mark.long
def test_a_study_killed_at_a_random_moment_ends_with_byte_identical_tables(tmp_path):
    config = StudyConfig(models=("tiny-llama",), device="cpu", generation=False, **kill_resume.SMALL)
    for killed in kill_resume.kills(config, tmp_path, 1, seed=1):
        assert killed.different == () and killed.faults == (), killed


def test_runs_lists_date_models_steps_size_and_time(study, run):
    (found,) = list_runs(study.parent)
    assert (found.steps_done, found.steps_total, found.done, found.models) == (6, 6, True, ("tiny-llama",))
    assert found.n_bytes == sum(p.stat().st_size for p in study.rglob("*") if p.is_file()) and found.seconds > 0
    said = run("runs", study.parent).stdout
    assert "first" in said and "6/6" in said and "tiny-llama" in said and found.created[:10] in said
    assert max(map(len, said.splitlines())) <= 80
    assert run("runs", study.parent).stdout == run("runs", "list", study.parent).stdout
    assert "no runs in" in run("runs", study / "tiny-llama").stdout
    assert run("runs", "/no/such/folder").returncode == 2


def test_an_unfinished_run_and_one_with_a_damaged_manifest_are_listed_as_such(copy, run):
    facts = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(facts | {"done": False}))
    shutil.rmtree(copy / "tiny-llama" / "steering")
    assert "5/6" in run("runs", copy).stdout and "not finished" in run("runs", copy).stdout
    (copy / "manifest.json").write_text("{")
    assert "unreadable" in run("runs", copy).stdout


def test_verify_is_silent_on_a_whole_run_and_exits_1_naming_every_damaged_file(copy, run):
    assert run("runs", "verify", copy).returncode == 0
    hurt = ["tiny-llama/tables/lens.csv", "tiny-llama/steering/dose_response.json", "tiny-llama/vectors.safetensors"]
    for name in hurt:
        raw = bytearray((copy / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (copy / name).write_bytes(raw)
    (copy / "claims.json").unlink()
    done = run("runs", "verify", copy)
    assert done.returncode == 1 and "4 of" in done.stdout
    assert all(str(copy / name) in done.stdout for name in [*hurt, "claims.json"])
    assert run("runs", "verify", copy / "tiny-llama").returncode == 2


def test_a_run_equals_itself_and_a_changed_cell_is_found_with_its_size_and_place(study, copy, run):
    assert compare_runs(study, copy).equal
    path = copy / "tiny-llama" / "tables" / "anisotropy.csv"
    frame = pd.read_csv(path)
    column = frame.select_dtypes("number").columns[-1]
    frame.loc[2, column] += 0.25
    frame.to_csv(path, index=False)
    assert compare_runs(study, copy).damaged == (str(path),)  # its checksum is the old one
    (copy / "SHA256SUMS").unlink()
    found = compare_runs(study, copy)
    (row,) = found.tables[found.tables.differing > 0].to_dict("records")
    assert (row["table"], row["differing"], row["at"]) == ("anisotropy", 1, f"row 3, {column}")
    assert row["largest"] == pytest.approx(0.25) and not found.equal
    said = run("runs", "compare", study, copy).stdout
    assert "0.25" in said and "anisotropy" in said and max(map(len, said.splitlines()[2:-1])) <= 80


def test_settings_versions_and_missing_tables_are_named(study, copy):
    facts = json.loads((copy / "manifest.json").read_text())
    facts["config"]["seed"], facts["versions"]["torch"] = 7, "0.1"
    (copy / "manifest.json").write_text(json.dumps(facts))
    (copy / "tiny-llama" / "tables" / "lens.csv").unlink()
    found = compare_runs(study, copy)
    assert set(found.settings.what) == {"seed", "version of torch"}
    assert found.tables.set_index("table").note["lens"] == "only in A"
    with pytest.raises(ArtifactError, match="no run folder"):
        compare_runs(study, copy.parent)


def test_cells_are_compared_as_written():
    a, b = pd.DataFrame({"x": ["1", "2"], "t": ["a", "b"]}), pd.DataFrame({"x": ["1.0", "5"], "t": ["a", "c"]})
    found = compare_tables(a, b)
    assert (found["cells"], found["differing"], found["largest"], found["at"]) == (4, 3, 3.0, "row 2, x")
    assert compare_tables(a, a)["differing"] == 0 and "2 x 2 against 1 x 2" in compare_tables(a, b[:1])["note"]


def test_a_plan_knows_what_is_stored_what_is_begun_and_what_other_settings_need(study, copy, monkeypatch):
    monkeypatch.setattr(outcome, "load_model", lambda *a, **k: pytest.fail("a model was loaded"))

    def states(config, folder=study):
        return [s.state for s in plan_study(config, folder).models[0].steps]

    assert states(SMALL) == ["stored"] * 6
    assert states(SMALL.with_(doses=(3.0,))) == ["stored"] * 4 + ["to run", "stored"]  # the published doses are its own
    assert states(SMALL.with_(seed=1)) == ["stored", "to run", "stored", "to run", "to run", "to run"]
    assert states(SMALL.with_(stimuli="passages")) == ["to run"] * 6
    assert states(SMALL.with_(protocol="ours")) == ["stored"] * 5
    assert states(SMALL.with_(steering=False, backend="hooked")) == ["to run"] * 4
    assert states(SMALL, study.parent / "none") == ["to run"] * 6
    shutil.rmtree(copy / "tiny-llama" / "comprehension")
    (copy / "tiny-llama" / ".partial").mkdir()
    (copy / "tiny-llama" / ".partial" / f"comprehension-{'0' * 16}.journal").write_bytes(b"")
    assert states(SMALL, copy) == [
        "begun",
        "stored",
        "stored",
        "to run",
        "to run",
        "to run",
    ]  # controls and either steering depend on what was read


def test_the_estimated_disk_use_is_within_a_fifth_of_the_actual(study):
    actual = sum(p.stat().st_size for p in (study / "tiny-llama").rglob("*") if p.is_file())
    needs = plan_study(SMALL, study).models[0].needs
    assert needs.disk == pytest.approx(actual, rel=0.2)


def test_speeds_come_from_stored_steps_and_say_so(study):
    known = measured_in([study])
    assert {m.step for m in known} == {
        "comprehension",
        "generation",
        "generation_jeong",
        "controls",
        "steering",
        "published",
    }
    planned = plan_study(SMALL.with_(models=("tiny-gpt2", "llama-3.1-8b")), study).models
    assert {s.basis for s in planned[0].steps} == {"measured on tiny-llama"}
    assert {s.basis for s in planned[1].steps} == {"assumed"}  # a tiny model says nothing about a large one
    again = plan_study(SMALL, study.parent / "none").models[0].steps[0]
    seconds = json.loads((study / "tiny-llama" / "comprehension" / "step.json").read_text())["seconds"]
    assert again.seconds == pytest.approx(seconds, rel=0.01)


@pytest.mark.long
def test_prune_lists_what_the_study_does_not_need_and_removes_it_on_demand(copy, capsys):
    root, small = copy, SMALL.with_(generation=False)
    assert spare_in(root) == ()
    run_study(small.with_(doses=(5.0,)), root)  # steering under other settings
    model = root / "tiny-llama"
    damaged = model / "comprehension" / "last_token.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    run_study(small.with_(doses=(5.0,)), root)
    (model / ".partial").mkdir()
    (model / ".partial" / f"steering-{'0' * 16}.journal").write_bytes(b"old")
    shutil.rmtree(model / "generation_jeong")
    (model / ".partial" / f"generation_jeong-{'0' * 16}.journal").write_bytes(b"waits for its study")
    found = spare_in(root)
    assert [s.path.parent.name for s in found] == [".kept", ".kept", ".set_aside", ".partial"]
    assert sum(s.n_bytes for s in found) > 1000

    prune(root, delete=False)
    assert "--delete removes it" in capsys.readouterr().out and spare_in(root) == found
    prune(root, delete=True)
    assert "removed" in capsys.readouterr().out and spare_in(root) == ()
    assert [p.name for p in (model / ".partial").iterdir()] == [f"generation_jeong-{'0' * 16}.journal"]
    assert not verify_run(root).damages
    prune(root, delete=True)
    assert "nothing beside its study" in capsys.readouterr().out
