"""What a study needs, from shapes alone: facts of public models, formulas, and that nothing is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lens_emotion.models.catalog import CATALOG, TINY, find_spec
from lens_emotion.models.shapes import SHAPES, shape_from, shape_of
from lens_emotion.run.config import StudyConfig, expand
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.study import plan
from lens_emotion.study.plan import disk_of, needs_of, plan_study, work_of

CONFIG = StudyConfig()
PASSAGES = load_stimuli("passages")
KNOWN = [s for s in CATALOG if s.hub_id]


@pytest.mark.parametrize("spec", KNOWN, ids=lambda s: s.name)
def test_the_parameters_that_follow_from_a_shape_are_those_that_the_model_is_known_by(spec):
    shape = SHAPES[spec.name]
    assert (shape.n_layers, shape.d_model) == (spec.n_layers, spec.d_model)
    assert shape.parameters / 1e6 == pytest.approx(spec.millions, rel=0.01)


@pytest.mark.parametrize("spec", TINY, ids=lambda s: s.name)
def test_the_shape_of_a_folder_is_that_of_its_weights(spec):
    from conftest import plain

    model = plain(spec.name)
    found = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert shape_of(spec.name).parameters == pytest.approx(found, rel=0.02)


def test_keys_and_values_of_known_models():
    kib = {"llama-3.1-8b": 128, "mistral-7b-v0.3": 128, "llama-3.2-3b": 112, "qwen2.5-1.5b": 28, "gpt2": 36}
    for name, wanted in kib.items():  # KiB a token at 2 bytes a number, as published with these models
        assert SHAPES[name].kv_per_token * 2 / 1024 == wanted, name


def test_shapes_are_read_from_configs_nested_or_not_and_nonsense_is_none():
    llama = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
    flat = shape_from(llama | {"vocab_size": 100})
    assert flat == shape_from({"text_config": llama | {"vocab_size": 100}})
    assert (flat.n_kv_heads, flat.d_head, flat.tied) == (4, 16, False)
    assert shape_from(llama) is None and shape_from({}) is None


def test_weights_of_an_8b_model_take_16_gb_in_bfloat16_and_its_activations_what_they_are():
    shape = SHAPES["llama-3.1-8b"]
    needs = needs_of(CONFIG, PASSAGES, shape, "bfloat16", "cuda")
    assert needs.weights == pytest.approx(16.06e9, rel=0.01)
    assert 18e9 < needs.device < 24e9  # fits a GPU of 24 GB
    rows = 4 * 252 + 210 + 48 + 252 + 240  # controls: neutral texts, stories cut to the length of passages, twins
    assert needs.host == 2 * rows * 32 * 4096 * 4 and needs.disk == pytest.approx(rows * 32 * 4096 * 4, rel=0.03)


def test_reading_is_two_operations_a_parameter_and_token():
    shape = SHAPES["smollm2-135m"]
    work = work_of("comprehension", CONFIG, PASSAGES, shape)
    assert work.read == pytest.approx(18078, rel=0.02)  # tokens that SmolLM2's tokenizer makes of the passages
    assert work.flops == pytest.approx(2 * shape.body * work.read, rel=1e-4) and work.texts == 252
    more = work_of("steering", CONFIG.with_(doses=(1.0, 2.0)), PASSAGES, shape)
    less = work_of("steering", CONFIG.with_(doses=(1.0,)), PASSAGES, shape)
    assert (less.written, more.written) == (40 * 5 * 40, 40 * 9 * 40)


def test_what_is_left_out_needs_nothing():
    shape = SHAPES["gpt2"]
    whole, bare = (disk_of(c, PASSAGES, shape) for c in (CONFIG, CONFIG.with_(generation=False, steering=False)))
    assert bare < 0.5 * whole


def test_the_papers_models_are_planned_by_one_word():
    names = expand(["paper", "gpt2", "tiny-llama"])
    assert names[-1] == "tiny-llama" and len(names) == len(set(names)) == sum(bool(s.paper) for s in CATALOG) + 1
    assert {find_spec(n).family for n in names} == {"gpt2", "gemma", "qwen", "llama", "mistral"}


def test_a_model_whose_shape_is_not_known_is_planned_without_numbers(tmp_path):
    (model,) = plan_study(CONFIG.with_(models=("someone/unheard-of",)), tmp_path / "run").models
    assert model.needs is None and {s.state for s in model.steps} == {"to run"}
    assert not (tmp_path / "run").exists()


def test_a_plan_loads_no_model_and_touches_nothing(tmp_path):
    out = json.dumps(str(tmp_path / "r"))
    code = (
        "import sys, torch, transformers\n"
        "def refuse(*a, **k): raise SystemExit('a model was loaded')\n"
        "transformers.AutoModelForCausalLM.from_pretrained = refuse\n"
        f"sys.argv = ['lens-emotion', 'study', 'paper', 'tiny-gemma', '--plan', '--out', {out}]\n"
        "from lens_emotion.cli.app import main\n"
        "main()\n"
    )
    options = {"capture_output": True, "text": True, "timeout": 300, "env": os.environ | {"COLUMNS": "120"}}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert done.returncode == 0, done.stderr
    assert "Llama-3.1-8B" in done.stdout and "GB" in done.stdout and "assumed" in done.stdout
    lines = done.stdout.replace(str(tmp_path), "").splitlines()
    assert max(map(len, lines)) <= 120 and not (tmp_path / "r").exists()


def test_what_will_not_fit_is_said_before_a_study_and_nothing_else(tmp_path, monkeypatch):
    config, folder = CONFIG.with_(models=("tiny-llama", "smollm2-135m"), device="cpu"), tmp_path / "run"
    monkeypatch.setattr(plan, "memory_left", lambda: (2.0**40, "of this machine's memory"))
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))
    assert plan.shortages(config, folder) == []
    monkeypatch.setattr(plan, "memory_left", lambda: (2.0**29, "of this machine's memory"))
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    memory = [line for line in plan.shortages(config, folder) if "512.0 MiB are left of this machine's memory" in line]
    assert len(memory) == 2 and "SmolLM2-135M needs about" in memory[1]
    (disk,) = plan.shortages(config, folder, here=False)  # workers have memory of their own
    assert "of disk, 1.0 MiB are free at" in disk and not folder.exists()
