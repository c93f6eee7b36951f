"""A study end to end on one tiny model: files, resumption, honest verdicts."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from methods_of import check_methods
from studies import SMALL, copied

import lens_emotion as le
from lens_emotion.errors import ArtifactError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.report.build import build_report
from lens_emotion.run import inputs, store
from lens_emotion.run.config import ConfigError, StudyConfig, parse_doses
from lens_emotion.run.places import places_in
from lens_emotion.run.store import Store
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.study import one_model as outcome
from lens_emotion.study import steps
from lens_emotion.study.pipeline import run_study
from lens_emotion.vectors.emotion_vectors import EmotionVectors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(studied, tmp_path_factory):
    return copied(studied, tmp_path_factory.mktemp("run") / "copy")


def gathered(config, run):
    """What a study of these settings measures, without its analyses."""
    store = Store.open(run.folder)
    (place,) = places_in(config.models, run.folder)
    return steps.gather(steps.open_model(outcome.loaded(place, config), config, store, steps.silent))


def test_run_folder_holds_activations_vectors_tables_and_manifest(run):
    folder = Path(run.folder) / "tiny-llama"
    assert len(PooledActivations.load(folder / "comprehension" / "story_mean.safetensors")) == 504
    assert len(EmotionVectors.load(folder / "vectors.safetensors")) == 20
    facts = json.loads((Path(run.folder) / "manifest.json").read_text())
    assert facts["config"]["seed"] == 0
    assert facts["versions"]["transformer-lens"]
    steering = pd.read_csv(folder / "tables" / "steering.csv")
    assert set(steering.condition) == {"emotion", "random"}
    for name in ("decoding_comprehension", "separation_jeong", "reliability_generation_reread", "anisotropy"):
        assert len(pd.read_csv(folder / "tables" / f"{name}.csv")) > 0


def test_a_second_run_reads_everything_back_and_gives_the_same_numbers(run, monkeypatch):
    for step in ("extract_poolings", "extract_generation", "dose_response"):
        monkeypatch.setattr(steps, step, lambda *a, **k: pytest.fail("a finished step ran again"))
    again = run_study(SMALL, run.folder, "pytest")
    a, b = run.models[0], again.models[0]
    pd.testing.assert_frame_equal(a.comprehension.decoding.table, b.comprehension.decoding.table)
    assert a.steering.summary() == b.steering.summary()


def test_changed_settings_run_the_step_again(run, monkeypatch):
    ran = []
    original = steps.dose_response
    monkeypatch.setattr(steps, "dose_response", lambda *a, **k: ran.append(1) or original(*a, **k))
    monkeypatch.setattr(steps, "extract_poolings", lambda *a, **k: pytest.fail("not affected by the doses"))
    assert set(gathered(SMALL.with_(doses=(2.0,)), run).steering.texts.dose) == {2.0}
    assert ran == [1]
    assert set(gathered(SMALL, run).steering.texts.dose) == {3.0, 8.0}
    assert ran == [1], "the step under the other settings was kept"


def test_a_damaged_file_is_made_again(run):
    path = Path(run.folder) / "tiny-llama" / "comprehension" / "story_mean.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    gathered(SMALL, run)
    assert path.read_bytes() == whole


def test_report_opens_offline_and_shows_a_control_beside_every_finding(run):
    path, rows = build_report(run)
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 8e6
    assert next(iter(rows[0])) == "model"
    assert "random" in page and "permuted labels" in page and "chance" in page
    assert page.index('id="claims"') < page.index('id="summary"') < page.index('id="tiny-llama-1"')
    assert run.models[0].info.fingerprint in page and run.models[0].comprehension.header.stimuli_sha256 in page
    assert str(path.parent) not in page, "a folder of this machine"
    assert page.count('class="cell ') == 3 * len(SMALL.doses)
    links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', page) if not link.startswith("http")]
    assert len(links) > 20 and all((path.parent / link).is_file() for link in links if link.endswith(".csv")), links
    for text in run.models[0].steering.texts.text.head(20):
        assert json.dumps(text, ensure_ascii=False)[1:-1].replace("&", "\\u0026") in page
    assert (path.parent / "tiny-llama" / "figures" / "layer_sweep_comprehension.json").exists()


def test_the_methods_paragraphs_say_what_this_run_did(run):
    body = check_methods(Path(run.folder))
    assert "480 texts of the set world-en" in body and "label permutations (20)" in body
    assert "at most 24 tokens, sampled at temperature 0.8 and top-p 0.95" in body
    assert "40 openings for 20 emotions, at most 12 tokens, doses 3 and 8)" in body and "word count" in body
    assert "claims C1" in body and "of the original study (Jeong 2026) and X1, which is ours," in body
    assert "words alone (bag of words and static embeddings;" in body and "judged a second time by the proto" in body
    assert le.methods_text(run) == le.methods_text(str(run.folder))
    page = build_report(run)[0].read_text(encoding="utf-8")
    assert escape(body.strip(), quote=False) in page.replace("&#39;", "'").replace("&#34;", '"')
    assert 'data-copies="methods-text"' in page and 'href="#methods"' in page


@pytest.mark.parametrize("given", [3, None, ["run"]])
def test_methods_of_what_is_no_run(given, untyped):
    with pytest.raises(ArtifactError, match="takes the folder of a run"):
        le.methods_text(given)


def test_methods_of_a_folder_without_a_run(tmp_path):
    with pytest.raises(ArtifactError, match="no finished run"):
        le.methods_text(tmp_path)


def test_bad_input_is_found_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(outcome, "load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(StimulusError):
        run_study(SMALL.with_(stimuli="poems"), tmp_path, "x")
    with pytest.raises(Exception, match="tiny-llama"):
        run_study(SMALL.with_(models=("tiny-llama", "tiny-lama")), tmp_path, "x")
    with pytest.raises(ConfigError):
        StudyConfig(models=())
    with pytest.raises(ConfigError):
        StudyConfig(doses=(0.0, 1.0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ArtifactError, match="cannot write"):
        run_study(SMALL, tmp_path / "run", "x")


def test_doses_are_read_as_typed_and_nonsense_is_named():
    assert parse_doses("1, 2,4.5") == (1.0, 2.0, 4.5)
    with pytest.raises(ConfigError, match="one,2"):
        parse_doses("one,2")


def test_model_names_cannot_leave_the_run_folder(tmp_path):
    inside = Store(tmp_path).model("../../etc/passwd").root.resolve()
    assert tmp_path.resolve() in inside.parents


@pytest.mark.parametrize("step", ["comprehension", "generation", "generation_jeong", "controls", "steering"])
def test_what_another_model_backend_precision_or_version_computed_is_not_read_back(step, monkeypatch):
    texts, other_texts = load_stimuli("world-en"), load_stimuli("passages")
    model = inputs.Identity("f", "bridge", "float32", "cpu")

    def key(config=SMALL, model=model, texts=texts, read="sha"):
        return store.key_of(inputs.step_inputs(step, config, model, texts, read))

    for change in ({"fingerprint": "g"}, {"backend": "hooked"}, {"dtype": "bfloat16"}, {"device": "cuda"}):
        assert key(model=replace(model, **change)) != key()
    assert key(texts=other_texts) != key()
    assert key(SMALL.with_(n_permutations=99)) == key()
    assert (key(SMALL.with_(doses=(3.0,))) != key()) == (step == "steering")
    assert (key(read="other states") != key()) == (step in ("steering", "controls"))
    before = key()
    monkeypatch.setattr(store, "version", lambda package: "0.0")
    assert key() != before
    monkeypatch.setitem(inputs.SCHEMAS, step, 99)
    assert key() != before
