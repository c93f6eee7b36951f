"""A study in another language, with emotions of its own, from files to vectors, steering and report."""

import json

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import lens_emotion as le
from lens_emotion.analysis.circumplex import circumplex, missing_norms
from lens_emotion.analysis.separation import separation
from lens_emotion.cli.app import app
from lens_emotion.errors import LensEmotionError, StimulusError
from lens_emotion.run.config import read_study_file
from lens_emotion.steering.judge_files import judge_from_file
from lens_emotion.stimuli.emotions import Norm, main_script
from lens_emotion.stimuli.lint import LintRules, lint
from lens_emotion.stimuli.sets import read_stimulus_file
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.stored import read_run
from lens_emotion.vectors.emotion_vectors import mixture, parse_mixture

EMOTIONS = {
    "traurig": ("Sie weint und senkt den Kopf", "die Tränen laufen", "alles ist leer und grau"),
    "wütend": ("Er schreit und ballt die Faust", "die Tür knallt", "sein Gesicht ist rot"),
    "愉快": ("他笑着唱歌", "大家都在跳舞", "阳光照在脸上"),
    "neutral": ("Man zählt die Stühle", "der Bus fährt um acht", "das Papier ist weiß"),
}
LANGUAGE = {"愉快": {"language": "zh"}}
TOPICS = ("im Büro", "am Bahnhof", "in der Küche", "auf dem Markt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stimuli, scenarios, prompts, judge and study, written as a user would."""
    home = tmp_path_factory.mktemp("eigenes")
    items = [
        {"emotion": e, "topic": t, "text": f"{parts[i % 3]} {t}. {parts[(i + 1) % 3]}."} | LANGUAGE.get(e, {})
        for e, parts in EMOTIONS.items()
        for i, t in enumerate(TOPICS)
    ]  # fmt: skip
    felt = [e for e in EMOTIONS if e != "neutral"]
    rows = [{"emotion": e, "opening": o} for e in felt for o in ("Am Morgen", "Dann ging sie")]
    prompts = {
        "templates": ["Schreibe über {topic}, {emotion}."],
        "neutral_templates": ["Schreibe über {topic}."],
        "topics": {t: t for t in TOPICS},
        "emotions": {e: e for e in felt},
    }
    words = {"de": {"traurig": ["weint", "Tränen"], "wütend": ["schreit", "Faust"]}, "zh": {"愉快": ["笑", "唱"]}}
    written = {
        "stimuli": {"name": "eigene", "language": "de", "items": items},
        "scenarios": {"scenarios": rows},
        "prompts": prompts,
        "judge": {"kind": "words", "words": words},
    }
    for name, data in written.items():
        (home / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    files = "".join(f'{name} = "{name}.json"\n' for name in written)
    settings = "permutations = 20\ndoses = [2]\nstory_tokens = 24\nsteered_tokens = 8\n"
    study = files + settings + '[[models]]\nname = "tiny-qwen"\ndevice = "cpu"\n'
    (home / "study.toml").write_text(study, encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def acts(folder):
    return le.extract_comprehension(le.load_model("tiny-qwen", device="cpu"), folder / "stimuli.json")


def test_emotions_of_any_script_are_read_separated_and_mixed(acts, folder):
    vectors = le.emotion_vectors(acts)
    assert vectors.emotions == ("traurig", "wütend", "愉快")
    stored = le.EmotionVectors.load(vectors.save(folder / "vectors.safetensors"))
    mixed = mixture(stored, parse_mixture("0.5*traurig - 0.3*wütend"))
    wanted = 0.5 * vectors["traurig"] - 0.3 * vectors["wütend"]
    assert torch.equal(mixed.direction, wanted.direction)
    assert "traurig" in separation(acts, n_permutations=20).decoding.by_emotion.emotion.to_list()


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ("愉快+2*грусть", [(1.0, "愉快"), (2.0, "грусть")]),
        ("खुशी - 0.3*'in love'", [(1.0, "खुशी"), (-0.3, "in love")]),
        ("-1*wu\u0308tend", [(-1.0, "wütend")]),
    ],
)
def test_a_mixture_takes_names_of_any_script_and_names_in_quotes(words, terms):
    assert parse_mixture(words) == terms


def test_a_judge_of_two_languages_reads_both_scripts(folder):
    judge = judge_from_file(folder / "judge.json", le.load_stimuli(folder / "stimuli.json"))
    scores = judge.score(["Er schreit laut", "他笑着", "nichts"])
    assert [judge.emotions[i] for i in scores[:2].argmax(1)] == ["wütend", "愉快"]
    assert scores[2].max() - scores[2].min() < 1e-9
    assert judge.accuracy is not None and judge.accuracy > judge.chance
    assert main_script("他笑着唱歌") == "Han"


def test_without_ratings_the_circumplex_says_what_is_missing_and_with_them_it_is_drawn(acts):
    vectors = le.emotion_vectors(acts)
    with pytest.raises(StimulusError, match="Missing: traurig, wütend, 愉快"):
        circumplex(vectors)
    four = le.emotion_vectors(
        le.extract_comprehension(le.load_model("tiny-llama"), emotions=("happy", "sad", "calm", "angry"))
    )
    own = [Norm(e, e, float(i), float(-i * i)) for i, e in enumerate(four.emotions)]
    assert missing_norms(four.emotions, own) == "" and missing_norms(four.emotions, own[:3])
    assert circumplex(four, n_permutations=20, n_draws=20, ratings=own).table.valence.to_list() == [0.0, 1.0, 2.0, 3.0]


def test_a_study_of_own_files_runs_into_a_report_that_says_what_it_could_not_do(folder):
    config, _ = read_study_file(folder / "study.toml")
    run = run_study(config, folder / "run")
    (model,) = run.models
    assert model.circumplex is None and "wütend" in model.unrated
    assert model.versus is not None and model.versus_preset is None
    assert {s for s in model.steering.texts.steered if not s.startswith("random")} == {"traurig", "wütend", "愉快"}
    from lens_emotion.report.build import build_report

    page = build_report(run)[0].read_text(encoding="utf-8")
    assert "No circumplex: only 0 of these 3 emotions" in page and "愉快" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("prompts = ", "_prompts = "), "ask for no traurig, wütend, 愉快"),
        (("scenarios = ", "_scenarios = "), "have none of the emotions of 'eigene'"),
    ],
)
def test_files_that_do_not_go_together_are_refused_before_anything_is_loaded(folder, change, words, monkeypatch):
    monkeypatch.setattr("lens_emotion.study.one_model.load_model", lambda *_, **__: pytest.fail("loaded"))
    path = folder / "faulty.toml"
    path.write_text((folder / "study.toml").read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(LensEmotionError, match=words):
        run_study(read_study_file(path)[0], folder / "none")


def test_init_writes_a_study_that_the_command_line_plans(tmp_path):
    run = CliRunner()
    assert run.invoke(app, ["init", str(tmp_path / "mine")]).exit_code == 0
    told = run.invoke(app, ["study", str(tmp_path / "mine" / "study.toml"), "--plan"])
    assert (
        told.exit_code == 0
        and "tiny-llama" in told.stdout
        and str(tmp_path / "mine" / "run") in told.stdout.replace("\n", "")
    )
    told = run.invoke(app, ["study", "--config", str(tmp_path / "mine" / "study.toml"), "tiny-gpt2", "--plan"])
    assert told.exit_code == 0 and "tiny-gpt2" in told.stdout


@pytest.mark.slow
def test_the_example_runs_as_it_stands(tmp_path):
    from lens_emotion.run.config import write_example

    write_example(tmp_path)
    assert not lint(read_stimulus_file(tmp_path / "stimuli.toml"), LintRules(min_words=30))
    config, out = read_study_file(tmp_path / "study.toml")
    (model,) = run_study(config, out).models
    assert (
        model.comprehension.separation.distinguishable(model.comprehension.decoding.best_layer)
        and model.circumplex is not None
    )
    (again,) = read_run(out).models  # people's own ratings come back with the run
    pd.testing.assert_frame_equal(again.study.circumplex.table, model.circumplex.table)
    assert again.evidence.ratings == read_stimulus_file(tmp_path / "stimuli.toml").stimuli.norms
