"""Two models of one name in a run, names that are the run's own, and run folders that hold what no study wrote."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no part of the package

from benchmarks import kill_resume
from lens_emotion.errors import ArtifactError, UnknownModelError
from lens_emotion.models.catalog import TINY
from lens_emotion.models.loading import Source, tiny_folder
from lens_emotion.run import places
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.look import compare_runs, list_runs, places_before, read_manifest, spare_in, verify_run
from lens_emotion.run.places import places_in, places_of
from lens_emotion.run.store import SUMS, Store, check_is_free, safe_name
from lens_emotion.study import pipeline
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.plan import plan_study
from lens_emotion.study.stored import read_run

OWN = ("tables", "figures", "report", "report.html", "manifest.json", "claims.json", "SHA256SUMS", "CON", "nul.txt")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Makes a model's folder of a few bytes; any of them is taken for whole."""

    def make(at, content="", label=None):
        folder = tmp_path / at
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(content or str(at))
        (folder / "label").write_text(label or folder.name)
        return str(folder)

    def resolve(name):
        if name.startswith("hub:"):
            return Source(name[4:], name[4:], on_hub=True)
        return Source((Path(name) / "label").read_text(), name)

    monkeypatch.setattr(places, "resolve", resolve)
    return make


def names(models, known=None):
    return [place.name for place in places_of(models, known)]


def folders(models):
    return [unicodedata.normalize("NFC", safe_name(n)).casefold() for n in names(models)]


COLLIDING = {
    "one name": ("model", "model"),
    "case": ("Model", "mOdel"),
    "what no folder is called": ("a b", "a_b"),
    "dots at the end": ("x.", "x"),
    "dots in front": (".x", "x"),
    "composed and decomposed": ("caf\u00e9", "cafe\u0301"),
    "ligatures": ("\ufb01nal", "final"),
    "one of the run's": ("tables", "TABLES"),
    "what stands in for one of the run's": ("tables", "tables_model"),
    "a hub id and a folder": ("hub:org/model", "org_model"),
    "two hub ids": ("hub:a/b_c", "hub:a_b/c"),
    "too long": ("x" * 300, "X" * 300),
}


@pytest.mark.parametrize("labels", COLLIDING.values(), ids=COLLIDING)
def test_no_two_models_share_a_folder_whatever_they_are_called(model, labels):
    given = [n if n.startswith("hub:") else model(f"{i}", label=n) for i, n in enumerate(labels)]
    found = names(given)
    assert len(set(folders(given))) == 2 == len(set(found))
    for name, label in zip(found, labels, strict=True):
        assert name.startswith(label.removeprefix("hub:"))
        assert len(safe_name(name).encode()) <= 255 and safe_name(name).casefold() not in map(str.casefold, OWN)
    assert names(given[::-1]) == found[::-1]


@pytest.mark.parametrize("name", [*OWN, *map(str.title, OWN), ".lock", "..", "", "x" * 400, "\u00e9" * 200, "a/../b"])
def test_a_models_folder_is_inside_the_run_and_none_of_its_own_files(name):
    folder = safe_name(name)
    assert Path(folder).name == folder and not folder.startswith(".") and len(folder.encode()) <= 255
    assert folder.casefold() not in map(str.casefold, OWN)
    assert safe_name("tiny-llama") == "tiny-llama" and safe_name("org/Model_1.5b") == "org_Model_1.5b"


def test_a_name_that_is_nobody_elses_stays(model):
    assert names([model("a/one"), model("b/two"), "hub:org/three"]) == ["one", "two", "org/three"]


def test_a_name_holds_from_any_folder_beside_other_models_and_where_files_moved(model, tmp_path, monkeypatch):
    one, two, three = model("a/model", "1"), model("b/model", "2"), model("c/model", "3")
    both = names([one, two])
    assert names([three, two, one])[1:] == both[::-1]
    monkeypatch.chdir(tmp_path / "b")
    assert names(["../a/model", "model/../../b/model"]) == both
    shutil.move(one, tmp_path / "elsewhere")
    assert names([str(tmp_path / "elsewhere"), two]) == both


def test_a_run_that_goes_on_keeps_its_names(model, tmp_path):
    one, two = model("a/model"), model("b/model")
    alone = {"model": one}
    first, second = names([one, two], alone)
    assert first == "model" and second.startswith("model-")
    assert names([two], alone) == [second]  # the folder is still that of another model
    assert names([one], {first: one, second: two}) == ["model"]
    marked = names([one, two])
    assert names([two], dict(zip(marked, (one, two), strict=True))) == [marked[1]]
    shutil.move(one, tmp_path / "moved")
    assert names([str(tmp_path / "moved")], alone) == ["model"]  # and is known by its weights


def test_a_copy_of_one_that_has_its_name_is_refused_too(model):
    one, two, copy = model("a/model", "1"), model("b/model", "2"), model("c/model", "1")
    was = dict(zip(names([one, two]), (one, two), strict=True))
    with pytest.raises(UnknownModelError, match="hold the same files"):
        places_of([one, copy], was)


def test_one_that_was_trained_on_does_not_go_by_the_name_of_what_it_was(model):
    one, two = model("a/model"), model("b/model")
    was = dict(zip(names([one, two]), (one, two), strict=True))
    Path(one, "model.safetensors").write_text("trained on")
    assert names([one, two], was)[0] not in was and names([one, two], was)[1] in was


@pytest.mark.parametrize("what", ["twice", "dots", "slash", "link", "copy", "hub"])
def test_one_model_twice_is_refused_in_words(model, tmp_path, what, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model("m", "same")
    if what == "link":
        (tmp_path / "link").symlink_to("m")
    if what == "copy":
        model("copy/m", "same")
    other = {"twice": "m", "dots": "./m", "slash": "m/", "link": "link", "copy": "copy/m", "hub": "hub:Org/M"}[what]
    words = {"copy": "hold the same files", "twice": "stands twice"}.get(what, "are one model")
    with pytest.raises(UnknownModelError, match=words):
        places_of(["hub:org/m" if what == "hub" else "m", other])


def test_a_catalog_name_and_the_folder_it_ships_in_are_one_model():
    with pytest.raises(UnknownModelError, match="are one model"):
        places_of(["tiny-llama", str(tiny_folder(TINY[3]))])


# What lies in a run folder.


FOREIGN = ["manifest.json", "report.html", "claims.json", SUMS, "tables/claims.csv", "tables/rsa.csv", "mine/notes.txt"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_holds_what_no_study_wrote_is_refused_untouched(name, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "check_inputs", lambda *a, **k: pytest.fail("too late"))
    path = tmp_path / "out" / name.replace("mine", "tiny-llama")
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "another tool"}')
    with pytest.raises(ArtifactError, match=f"holds {Path(name.replace('mine', 'tiny-llama')).parts[0]}.*--out|holds"):
        run_study(StudyConfig(models=("tiny-llama",)), tmp_path / "out")
    assert path.read_text() == '{"name": "another tool"}' and os.listdir(tmp_path / "out") == [
        path.relative_to(tmp_path / "out").parts[0]
    ]
    with pytest.raises(ArtifactError, match="no study wrote"):
        plan_study(StudyConfig(models=("tiny-llama",)), tmp_path / "out")


def test_a_run_is_known_though_its_manifest_or_its_checksums_are_lost(tmp_path):
    store = Store.open(tmp_path)
    store.json("manifest.json", {"config": {}})
    store.table("claims", kill_resume_table())
    for name in ("manifest.json", SUMS):
        kept = (tmp_path / name).read_bytes()
        for harm in kill_resume.HARMS[1:]:
            kill_resume.harm(tmp_path / name, harm)
            check_is_free(tmp_path, ["m"])
            (shutil.rmtree if (tmp_path / name).is_dir() else os.unlink)(tmp_path / name) if harm != "deleted" else None
            (tmp_path / name).write_bytes(kept)
    check_is_free(tmp_path / "new", ["m"])


def kill_resume_table():
    import pandas as pd

    return pd.DataFrame({"a": [1]})


def test_results_are_not_written_into_the_models_own_folder(model, tmp_path):
    with pytest.raises(ArtifactError, match="into the model's own folder"):
        places_in([model("runs/mine")], tmp_path / "runs")


def test_tables_of_the_user_are_left_and_those_of_other_settings_go(tmp_path):
    store = Store.open(tmp_path).model("m")
    for name in ("old", "new"):
        store.table(name, kill_resume_table())
    (tmp_path / "m/tables/notes.csv").write_text("of the user")
    store.only_tables(["new"])
    assert sorted(p.name for p in (tmp_path / "m/tables").iterdir()) == ["new.csv", "notes.csv"]


@pytest.mark.parametrize("at", ["m/tables/t.csv", "m/tables", "m", "t.json", SUMS])
def test_what_lies_in_a_files_place_is_set_aside_as_it_is(at, tmp_path):
    place = tmp_path / at
    if at.endswith((".csv", ".json", SUMS)):
        place.mkdir(parents=True)
        (place / "note").write_text("of the user")
    else:
        place.parent.mkdir(exist_ok=True)
        place.write_text("of the user")
    store = Store.open(tmp_path)
    store.model("m").write("tables/t.csv", "a\n")
    store.write("t.json", "{}")
    assert (tmp_path / "m/tables/t.csv").read_text() == "a\n" and (tmp_path / "t.json").read_text() == "{}"
    kept = tmp_path / ".set_aside" / place.name
    assert (kept / "note" if kept.is_dir() else kept).read_text() == "of the user"
    store.json("manifest.json", {"config": {}})
    assert any(str(kept) in note for note in verify_run(tmp_path).notes)
    assert [s.path for s in spare_in(tmp_path)] == [kept]


def test_only_temporary_files_of_ours_are_cleared(tmp_path):
    mine, theirs = tmp_path / "m" / ".t.csv.ab12cd_x.tmp", tmp_path / "m" / ".notes.tmp"
    for path in (mine, theirs):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    Store.open(tmp_path)
    assert not mine.exists() and theirs.exists()


# A study of two models of one name, killed and damaged.


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Settings of a small study of two models of one name, and its run."""
    root = tmp_path_factory.mktemp("two")
    config = kill_resume.same_name(root).with_(generation=False, steering=False)
    run_study(config, root / "whole", "pytest")
    return config, root


@pytest.mark.slow
def test_two_models_of_one_name_are_studied_and_told_apart_everywhere(two):
    config, root = two
    run = read_run(root / "whole")
    one, other = [m.name for m in run.models]
    assert one.startswith("model-") and other.startswith("model-") and one != other
    assert [m.evidence.info.family for m in run.models] == ["llama", "gpt2"]
    facts = read_manifest(root / "whole")
    assert facts.places == {one: str(root / "a/model"), other: str(root / "b/model")}
    assert [row.name for row in facts.rows] == [one, other]
    assert list_runs(root / "whole")[0].models == (one, other)
    assert {one, other} <= {c.scope for c in run.claims.claims}
    tables = {m.parent.parent.name for m in (root / "whole").glob("*/tables/lens.csv")}
    assert tables == {one, other}
    compared = compare_runs(root / "whole", root / "whole")
    assert set(compared.tables.model) == {"", one, other} and compared.equal
    steps = plan_study(config, root / "whole").models
    assert [(m.name, m.steps[0].state) for m in steps] == [(one, "stored"), (other, "stored")]


@pytest.mark.long
def test_a_study_of_two_of_one_name_is_byte_identical_after_a_kill_and_after_damage(two):
    config, root = two
    wanted = kill_resume.tables(root / "whole")
    killed = kill_resume.kill_and_resume(config, root / "killed", 2.0, wanted)
    assert killed.different == () and killed.faults == (), killed
    step = next(p.parent.name for p in (root / "whole").glob("model-*/comprehension"))
    for file, how in {f"{step}/comprehension/story_mean.safetensors": "flipped byte", SUMS: "deleted"}.items():
        mended = kill_resume.mend(config, root / "whole", root / f"harmed-{how}", file, how)
        assert mended.named and mended.different == () and mended.faults == (), mended


def test_the_manifest_of_before_says_no_places(tmp_path):
    (tmp_path / "manifest.json").write_text('{"config": {"models": ["tiny-llama"]}, "created": "2026-01-02T03:04:05"}')
    assert places_before(tmp_path) == {} == places_before(tmp_path / "none")


INSTALLS = (
    "{}",
    "/old/site-packages/lens_emotion/models/tiny/{}",
    "C:\\x\\lens_emotion\\models\\tiny\\{}",
    "package:{}",
)


@pytest.mark.parametrize("folder", INSTALLS)
def test_a_model_of_the_package_has_its_name_from_any_install(folder):
    """A run that was begun by an install at another path gave it a second name, tiny-gpt2-b056a6."""
    name = "tiny-gpt2"
    was = folder.format(tiny_folder(TINY[0]) if folder == "{}" else name)
    assert [(p.name, p.source) for p in places_of([name], {name: was})] == [(name, f"package:{name}")]
    both = {name: was, "tiny-llama": was.replace(name, "tiny-llama")}
    assert names(["tiny-llama", name], both) == ["tiny-llama", name]


@pytest.mark.parametrize("was", ["/mine/models/tiny/tiny-gpt2", "hub:mine/tiny-gpt2"])
def test_a_model_of_the_user_is_none_of_the_package(was, monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    assert names(["tiny-gpt2"], {"tiny-gpt2": was}) != ["tiny-gpt2"]


def test_results_are_not_written_into_a_model_of_the_package():
    with pytest.raises(ArtifactError, match="own folder"):
        places_in(["tiny-gpt2"], tiny_folder(TINY[0]).parent)
