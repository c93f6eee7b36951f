"""Eight and four bit, several GPUs: what cannot be had here is refused before anything is loaded; drift is printed."""

import importlib.util

import pytest
import torch
from typer.testing import CliRunner

from lens_emotion.cli.app import app
from lens_emotion.errors import UnsupportedModelError
from lens_emotion.models import loading, placement
from lens_emotion.models.loading import load_model
from lens_emotion.run.config import StudyConfig
from lens_emotion.study.pipeline import run_study


@pytest.fixture
def nothing_loads(monkeypatch):
    for name in ("_from_pretrained", "tokenizer_of_source", "weights_of_source", "check_reachable"):
        monkeypatch.setattr(loading, name, lambda *_, **__: pytest.fail("began to load"))


@pytest.fixture
def without_bitsandbytes(monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name, *rest: None if name == "bitsandbytes" else found(name, *rest)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", missing)


@pytest.mark.parametrize("width", placement.QUANTISED)
def test_quantising_without_bitsandbytes_is_refused_before_anything_loads(nothing_loads, without_bitsandbytes, width):
    with pytest.raises(UnsupportedModelError, match="pip install bitsandbytes"):
        load_model("gpt2", quantise=width)


def test_a_study_refuses_it_too_before_its_folder_is_made(nothing_loads, without_bitsandbytes, tmp_path):
    config = StudyConfig(models=("tiny-gpt2", "tiny-llama"), overrides={"tiny-llama": {"quantise": "4bit"}})
    with pytest.raises(UnsupportedModelError, match="bitsandbytes"):
        run_study(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_widths_and_backends_that_do_not_fit_are_refused(nothing_loads, monkeypatch):
    with pytest.raises(UnsupportedModelError, match="'3bit'; use 8bit or 4bit"):
        load_model("tiny-gpt2", quantise="3bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name)
    with pytest.raises(UnsupportedModelError, match="use backend='bridge'"):
        load_model("tiny-gpt2", quantise="8bit", backend="hooked")


def test_auto_is_the_one_device_where_there_is_no_second_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert not placement.over_gpus("auto") and placement.loading_options("cpu", None, torch.float32, False) == {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (1000 * (i + 1), 9999))
    assert placement.over_gpus("auto") and not placement.over_gpus("cuda:0") and not placement.over_gpus(None)
    options = placement.loading_options("cuda", None, torch.float32, True)
    assert options == {"device_map": "auto", "max_memory": {0: 900, 1: 1800}}, "GPUs alone: a Bridge takes no CPU part"


def test_transformers_is_told_the_width_and_the_place():
    pytest.importorskip("transformers")
    for width, flag in (("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")):
        options = placement.loading_options("cuda:0", width, torch.bfloat16, False)
        assert getattr(options["quantization_config"], flag) and options["device_map"] == {"": "cuda:0"}


def test_drift_prints_every_emotion_beside_its_reliability():
    told = CliRunner().invoke(app, ["drift", "tiny-gpt2", "--dtype", "bfloat16", "--device", "cpu"])
    assert told.exit_code == 0, told.exception
    rows = {
        line.split()[0]: line.split()[1:] for line in told.stdout.splitlines() if line.split()[1:2] and line[0] != " "
    }
    cosine, reliability = map(float, rows["angry"][:2])
    assert 0.99 < cosine <= 1 and 0.5 < reliability <= 1, rows["angry"]
    assert "dtype float32 against bfloat16" in " ".join(told.stdout.split())


def test_drift_of_a_precision_against_itself_is_refused(nothing_loads):
    result = CliRunner().invoke(app, ["drift", "tiny-gpt2", "--dtype", "float32"])
    assert isinstance(result.exception, UnsupportedModelError) and "give two precisions" in str(result.exception)
