"""`le.audit`: whatever people hold is taken, every check replies, and what comes out can be read, saved and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from asked import NAMES, random_set, reading
from planted import planted
from safetensors.torch import save_file

import lens_emotion as le
from lens_emotion.audits.audit import CHECKS
from lens_emotion.audits.finding import Audit
from lens_emotion.audits.noise import noise
from lens_emotion.audits.reading import subject_of
from lens_emotion.audits.subject import Arm, Subject
from lens_emotion.errors import ArtifactError, LensEmotionError
from lens_emotion.report.audit_section import audit_html, audit_page, audit_section
from lens_emotion.vectors.interchange import ControlFile, write_control_file
from lens_emotion.vectors.recipes import emotion_vectors

ROWS = random_set(3, 4, 32)
BY_LAYER = {k: torch.from_numpy(ROWS[0, k]) for k in range(4)}


@pytest.fixture(scope="module")
def acts():
    return planted(4, 6, d_model=64).acts


@pytest.fixture(scope="module")
def vectors(acts):
    return emotion_vectors(acts, "centred")


@pytest.fixture(scope="module")
def found(vectors, acts) -> Audit:
    return le.audit(vectors, acts)


@pytest.mark.parametrize(
    ("given", "shape", "emotions"),
    [
        (ROWS, (3, 4, 32), ("0", "1", "2")),
        (ROWS[:, 0], (3, 1, 32), ("0", "1", "2")),
        (ROWS[0, 0], (1, 1, 32), ("0",)),
        (ROWS.tolist(), (3, 4, 32), ("0", "1", "2")),
        (torch.from_numpy(ROWS).bfloat16(), (3, 4, 32), ("0", "1", "2")),
        ({"calm": ROWS[0], "sad": ROWS[1]}, (2, 4, 32), ("calm", "sad")),
        ({"calm": ROWS[0, 0], "sad": ROWS[1, 0]}, (2, 1, 32), ("calm", "sad")),
        (BY_LAYER, (1, 4, 32), ("vector",)),
        ({str(k): v for k, v in BY_LAYER.items()}, (1, 4, 32), ("vector",)),
        ({f"model.layers.{k}": v for k, v in BY_LAYER.items()}, (1, 4, 32), ("vector",)),
        ({f"blocks.{k}.hook_resid_post": v[None] for k, v in BY_LAYER.items()}, (1, 4, 32), ("vector",)),
        ({"calm": BY_LAYER, "sad": BY_LAYER}, (2, 4, 32), ("calm", "sad")),
        (SimpleNamespace(layer_activations=BY_LAYER, layer_type="decoder_block"), (1, 4, 32), ("vector",)),
        (SimpleNamespace(directions={k: v.numpy() for k, v in BY_LAYER.items()}), (1, 4, 32), ("vector",)),
        ({e: SimpleNamespace(layer_activations=BY_LAYER) for e in ("calm", "sad")}, (2, 4, 32), ("calm", "sad")),
    ],
)
def test_vectors_in_any_form(given, shape, emotions) -> None:
    (held,) = subject_of(given).vectors
    assert held.values.shape == shape and held.emotions == emotions
    assert np.allclose(held.values.ravel()[:32], ROWS[0, 0], atol=0.02)


def npz(path):
    np.savez(path, calm=ROWS[0], sad=ROWS[1])


def gguf(path):
    write_control_file(path, ControlFile({k: BY_LAYER[k] for k in (1, 2, 3)}, "llama"))


@pytest.mark.parametrize(
    ("name", "write", "n"),
    [
        ("v.npy", lambda p: np.save(p, ROWS), 3),
        ("v.npz", npz, 2),
        ("v.safetensors", lambda p: save_file({str(k): v for k, v in BY_LAYER.items()}, p), 1),
        ("w.safetensors", lambda p: save_file({e: torch.from_numpy(ROWS[i]) for i, e in enumerate("ab")}, p), 2),
        ("v.gguf", gguf, 1),
    ],
)
def test_vector_files_of_others(tmp_path, name, write, n) -> None:
    write(tmp_path / name)
    (held,) = subject_of(tmp_path / name).vectors
    assert len(held.emotions) == n and held.values.shape[2] == 32
    assert subject_of(str(tmp_path)).vectors[0].emotions == held.emotions


def test_a_folder_of_one_emotion_a_file_is_one_set(tmp_path, vectors) -> None:
    for i, emotion in enumerate(("calm", "sad", "proud")):
        save_file({str(k): torch.from_numpy(ROWS[i, k]) for k in range(4)}, tmp_path / f"{emotion}.safetensors")
    vectors.save(tmp_path / "ours.safetensors")
    sets = {s.emotions: s for s in subject_of(tmp_path).vectors}
    assert set(sets) == {("calm", "proud", "sad"), vectors.emotions}


def test_our_own_files_that_hold_nan_are_said_to_not_refused(tmp_path, acts, vectors) -> None:
    for thing, name in ((acts, "values"), (vectors, "directions")):
        path = thing.save(tmp_path / f"{name}.safetensors")
        assert le.audit(path).ok
        rows = getattr(thing, name).clone()
        rows[:, 1:] = float("nan")
        save_file({name: rows}, path, {"lens_emotion": json.dumps({"kind": type(thing).__name__})})
        bad = le.audit(path)
        assert not bad.ok and bad.findings["check"].tolist() == ["overflow"] and bad.findings["moves"][0] == 50


def test_nan_in_a_gguf_is_said(tmp_path) -> None:
    gguf(tmp_path / "v.gguf")
    data = (tmp_path / "v.gguf").read_bytes()
    (tmp_path / "v.gguf").write_bytes(data[:-8] + np.array([np.nan, 1], "<f4").tobytes())
    assert not le.audit(tmp_path / "v.gguf").ok


@pytest.mark.parametrize(
    "given", [None, 3, "", {}, [], "no-such-file.csv", object(), {"a": "b"}, np.zeros((2, 2, 2, 2))]
)
def test_what_cannot_be_audited_is_answered(untyped, given) -> None:
    with pytest.raises(LensEmotionError):
        le.audit(given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"emotions": ["calm"]}, "3 vectors, but 1 emotions are named"),
        ({"emotions": "calm"}, "give a list of names"),
        ({"token_norms": ["a"]}, "token_norms hold no lengths"),
        ({"n_permutations": 0}, "n_permutations is 0"),
    ],
)
def test_options_that_make_no_sense_are_answered(untyped, options, words) -> None:
    with pytest.raises(LensEmotionError, match=words):
        le.audit(ROWS, **options)


def test_a_pickle_is_not_opened(tmp_path) -> None:
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="without pickled objects"):
        le.audit(tmp_path / "v.npy")


def test_every_check_replies_in_its_order(found) -> None:
    assert found.table["check"].tolist() == [c.name for c in CHECKS] and len(set(found.table["check"])) == len(CHECKS)
    assert set(found.table["status"]) <= {"found", "passed", "not asked"}
    silent = found.table[found.table["status"] == "not asked"]
    assert silent["words"].str.startswith("could not be asked: ").all()
    assert found.ok and "checks could be asked" in found.summary() and len(repr(found)) < 400


def test_the_worst_finding_comes_first_and_decides() -> None:
    bad = le.audit({"mine": np.where(ROWS > 2, np.nan, ROWS), "theirs": ROWS - ROWS.mean(0)})
    assert bad.findings["severity"].tolist() == sorted(
        bad.findings["severity"], key=["critical", "major", "minor"].index
    )
    assert not bad.ok and bad.summary().split("; the worst: ")[1].startswith("overflow (")
    assert list(bad.findings) == ["check", "severity", "what", "where", "moves", "unit", "mend"]


def test_two_precisions_by_name(acts) -> None:
    low = replace(acts, header=acts.header.with_(dtype="float16"), values=acts.values.half().float())
    both = le.audit({"fp32": acts, "fp16": low})
    said = both.table.set_index("check").loc["noise-ceiling"]
    assert said.status == "passed" and "fp32 against fp16" in said.words and "cosine 1.00" in said.words


def test_json_holds_all_of_it(tmp_path, found) -> None:
    data = json.loads(found.save(tmp_path / "audit.json").read_text())
    assert set(data) == {"format", "subject", "ok", "unread", "findings", "checks"} and len(data["checks"]) == len(
        CHECKS
    )
    assert data["findings"] == json.loads(found.to_json())["findings"] and len(data["findings"]) == len(found.findings)


def test_a_page_and_a_section_escape_what_they_are_told(found) -> None:
    evil = le.audit({"<script>": np.full((3, 2, 8), np.nan)})
    page = audit_page(evil)
    assert "<script>" not in page and "&lt;script&gt;" in audit_html(evil) and "default-src 'none'" in page
    section = audit_section(found)
    assert [len(t[1]) for t in section.tables] == [len(found.findings), len(CHECKS)] and found.summary() in section.text


def test_the_command_prints_lines_and_says_by_its_code_what_it_found(called, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    np.save(tmp_path / "good.npy", ROWS)
    np.save(tmp_path / "bad.npy", np.full((3, 2, 8), np.nan))
    pd.DataFrame({"avg_sim": [0.4, 0.5]}).to_csv(tmp_path / "t.csv", index=False)
    good = called("audit", tmp_path / "good.npy", "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert good.code == 0 and json.loads((tmp_path / "a.json").read_text())["ok"] and (tmp_path / "a.html").exists()
    bad = called("audit", tmp_path / "bad.npy")
    assert bad.code == 1 and bad.out.startswith("critical") and "mend: " in bad.out
    assert all(len(line) <= 80 for line in bad.out.splitlines() if "/" not in line)
    assert called("audit", tmp_path / "t.csv", "--column", "avg_sim=cosine").code == 0
    for words in (["none.npy"], [tmp_path / "t.csv"], [tmp_path / "t.csv", "--column", "cosine"]):
        failed = called("audit", *words)
        assert failed.code == 2 and failed.err.count("\n") == 1 and not failed.out


def test_findings_of_one_check_stand_together_and_many_parts_are_not_listed(called, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for i in range(9):
        np.save(tmp_path / f"v{i}.npy", np.full((3, 2, 8), np.nan) if i < 2 else ROWS)
    said = called("audit", *(tmp_path / f"v{i}.npy" for i in range(9)), "--json", tmp_path / "a.json").out.splitlines()
    assert sum("overflow" in line and line.startswith("critical") for line in said) == 1
    assert sum(line.startswith(" ") and "layers 0 to 1" in line for line in said) == 2, "where, of both"
    assert sum("mend: " in line for line in said) == len({o["check"] for o in found_in(tmp_path / "a.json")})
    fine = le.audit([tmp_path / f"v{i}.npy" for i in range(2, 9)])
    (passed,) = [o for o in fine.outcomes if o.check.name == "overflow"]
    assert passed.brief.endswith("; and 4 more") and passed.brief.count(";") == 3 and passed.words.count(";") == 6


def found_in(path):
    return json.loads(path.read_text())["findings"]


def test_a_run_is_read_as_it_lies(tmp_path) -> None:
    """A reading that knows its own numbers is not measured again; noise, which the run has said, is not critical."""
    known = pd.DataFrame({"reliability": [0.1, 0.2], "accuracy_p_corrected": [0.4, 0.3], "accuracy": [0.06, 0.05]})
    arm = Arm("preset", reading(4.0), "m", known)
    (reply,) = noise(Subject("run", arms=(arm,), is_run=True))
    assert reply.severity == "major" and "p = 0.300" in reply.what and reply.moves == 0.2


def test_names_of_emotions_for_arrays() -> None:
    assert subject_of(random_set(8), emotions=NAMES).vectors[0].emotions == NAMES


def test_the_published_steering_of_a_run_is_asked_too(studied):
    found = le.audit(studied.folder)
    rows = found.findings[
        found.findings["where"].str.contains("as published") & (found.findings.check == "first-token")
    ]
    inflation = studied.models[0].published.suppression.inflation
    assert rows["moves"].tolist() == [pytest.approx(inflation, rel=1e-6)]
    assert "as published, texts" in {o.check.name: o.words for o in found.outcomes}["whitespace"]
