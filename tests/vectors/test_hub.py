"""Vectors on the Hub, against a stand-in server: one commit, a card that says what is known, checks on the way back."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import tiny
from hub_server import COMMIT, hub_server

from lens_emotion.analysis.separation import separation
from lens_emotion.errors import ArtifactError, FingerprintError
from lens_emotion.vectors.hub import model_card, pull_vectors, push_vectors


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture
def api(hub, monkeypatch, tmp_path):
    """The library's own client, pointed at the stand-in."""
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_HUB_CACHE",):
        monkeypatch.setattr(f"huggingface_hub.file_download.{name}", str(tmp_path / "cache"), raising=False)
    return HfApi(endpoint=hub.address, token="hf_stand_in")


def private(hub):
    """Whether the repository was made private, in the words of older and newer clients."""
    return hub.made.get("private") is True or hub.made.get("visibility") == "private"


def test_what_was_pushed_is_pulled_bit_for_bit_in_one_commit(hub, api, vectors):
    address = push_vectors(vectors, "someone/moods", licence="mit", api=api)
    assert address.endswith(COMMIT) and private(hub) and hub.message == "Emotion vectors"
    assert sorted(hub.files) == ["README.md", "vectors.safetensors"]
    assert sum("/commit/" in a for a in hub.asked) == 1
    back = pull_vectors("someone/moods", model=tiny(), api=api)
    assert torch.equal(back.directions, vectors.directions) and back.header == vectors.header


def test_the_card_tells_where_vectors_come_from_and_what_is_known_with_its_null(hub, api, acts, vectors):
    result = separation(acts, n_permutations=20)
    push_vectors(vectors, "someone/moods", licence="apache-2.0", findings=[result], api=api)
    card = hub.files["README.md"].decode()
    front, _, rest = card.removeprefix("---\n").partition("\n---\n")
    assert 'license: "apache-2.0"' in front and "library_name: lens-emotion" in front
    h = vectors.header
    for word in (h.fingerprint, h.stimuli_sha256, h.model, h.recipe, h.method, "happy, sad, calm", "pull_vectors"):
        assert word in rest, word
    assert result.summary() in rest and "chance" in rest


def test_a_card_without_findings_says_that_nothing_was_measured(vectors):
    assert "Nothing was measured" in model_card(vectors, "a/b", "f", "mit")


def test_names_cannot_break_out_of_the_card(vectors):
    from dataclasses import replace

    evil = replace(vectors, header=vectors.header.with_(notes=("a\n# b",)))
    object.__setattr__(evil.header, "model", 'x"\n---\n# `owned` | "')  # which a header refuses when it is made
    card = model_card(evil, "a/b", "f", 'mit"\nevil: true')
    front = card.split("\n---\n")[0]
    assert "evil: true" not in front.splitlines() and card.count("\n---\n") == 1
    assert "# b" not in card.splitlines() and not any(line.startswith("# `owned`") for line in card.splitlines())


def test_vectors_of_another_model_are_refused_when_pulled(hub, api, vectors):
    push_vectors(vectors, "someone/moods", licence="mit", api=api)
    with pytest.raises(FingerprintError, match="tiny-mistral"):
        pull_vectors("someone/moods", model=tiny("tiny-mistral"), api=api)


def test_a_damaged_file_on_the_hub_is_refused(hub, api, vectors):
    push_vectors(vectors, "someone/moods", licence="mit", api=api)
    data = bytearray(hub.files["vectors.safetensors"])
    data[-5] ^= 4
    hub.files["vectors.safetensors"] = bytes(data)
    with pytest.raises(ArtifactError, match="checksum"):
        pull_vectors("someone/moods", api=api)


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_of_the_hub_is_one_line_that_names_the_fix(hub, api, vectors, code):
    hub.refuse = code
    with pytest.raises(ArtifactError, match="hf auth login") as caught:
        push_vectors(vectors, "someone/moods", licence="mit", api=api)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_silent_hub_are_named(hub, api, monkeypatch):
    with pytest.raises(ArtifactError, match=r"cannot pull vectors\.safetensors from someone/moods"):
        pull_vectors("someone/moods", api=api)

    def silent(*args, **options):
        raise OSError("[Errno 111] Connection refused\nand more")

    monkeypatch.setattr(api, "hf_hub_download", silent)
    with pytest.raises(ArtifactError, match="Connection refused; check the names and the connection"):
        pull_vectors("someone/moods", api=api)


def test_the_command_line_pushes_and_pulls(hub, api, vectors, monkeypatch, tmp_path, capsys):
    from lens_emotion.cli.app import main

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    file = vectors.save(tmp_path / "v.safetensors")
    for args in (
        ["push", str(file), "someone/moods", "--licence", "mit", "--public"],
        ["pull", "someone/moods", "--out", str(tmp_path / "back.safetensors"), "--model", "tiny-llama"],
    ):
        monkeypatch.setattr(sys, "argv", ["lens-emotion", "vectors", *args])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code, capsys.readouterr().err
    assert not private(hub) and (tmp_path / "back.safetensors").read_bytes() == file.read_bytes()
