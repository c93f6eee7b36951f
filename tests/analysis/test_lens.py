"""The logit lens: folded norms against the model itself, tokens and scripts of planted directions, two backends."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import BACKENDS, tiny
from scipy.stats import kstest

from lens_emotion.analysis import lens as vocabulary_module
from lens_emotion.analysis.lens import (
    Vocabulary,
    _against,
    direction_logits,
    final_norm_scale,
    lens,
    scan,
    state_logits,
    vocabulary,
)
from lens_emotion.errors import AnalysisError, FingerprintError, UnsupportedModelError
from lens_emotion.models.access import describe
from lens_emotion.models.forward import read_out
from lens_emotion.stimuli.emotions import BYTES, SCRIPTS, count_scripts, main_script, scripts_of
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit


def _directions(model, n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(n, model.cfg.d_model, generator=generator))


def _vectors(model, rows, names, header):
    n_layers = model.cfg.n_layers
    sizes = torch.ones(len(rows), n_layers)
    header = replace(header, fingerprint=describe(model).fingerprint)
    return EmotionVectors(rows[:, None].expand(-1, n_layers, -1), names, sizes, sizes, torch.ones(n_layers), header)


def _reads(model):
    """What a unit of each residual dimension adds to each logit, final norm folded."""
    scale, centred = final_norm_scale(model)
    reads = model.W_U.detach().float() * scale[:, None]
    return reads - reads.mean(0) if centred else reads


def _toward(model, tokens):
    """The unit direction whose logits come closest (least squares) to 1 at these tokens and 0 elsewhere."""
    reads = _reads(model).double()
    reads = reads - reads.mean(1, keepdim=True)
    return unit((torch.linalg.pinv(reads @ reads.T) @ reads[:, list(tokens)].sum(1)).float())


@pytest.mark.parametrize("text, shares", [
    ("hello", {"Latin": 1.0}),
    ("héllo naïve", {"Latin": 1.0}),
    ("快乐 ok", {"Latin": 0.5, "Han": 0.5}),
    ("привет", {"Cyrillic": 1.0}),
    ("مرحبا", {"Arabic": 1.0}),
    ("행복", {"Hangul": 1.0}),
    ("ひらカナ", {"Kana": 1.0}),
    ("नमस्ते", {"Devanagari": 1.0}),
    ("χαρά", {"Greek": 1.0}),
    ("שמח", {"Hebrew": 1.0}),
    ("สุข", {"Thai": 1.0}),
    ("ამბავი", {"Other": 1.0}),
    ("12, 3!", {"Common": 1.0}),
    ("a1", {"Latin": 0.5, "Common": 0.5}),
    (" \n\t", {"Common": 1.0}),
    ("", {}),
    ("e\u0301", {"Latin": 1.0}),
])  # fmt: skip
def test_scripts_of_text(text, shares):
    assert scripts_of(text) == pytest.approx(shares)


def test_shares_of_scripts_sum_to_one_and_do_not_hang_on_order():
    text = "Hello, 世界! Привет 123 안녕"
    assert sum(scripts_of(text).values()) == pytest.approx(1)
    assert scripts_of(text) == scripts_of(text[::-1]) and count_scripts(text)["Han"] == 2


def test_the_script_of_a_token_is_that_of_most_of_its_letters():
    assert main_script(" 世界a") == "Han" and main_script("123a") == "Latin" and main_script(" ...") == "Common"
    assert main_script("a世") == main_script("世a")


def test_the_folded_norm_equals_the_models_own_norm_up_to_length(model):
    rows = _directions(model)
    own = read_out(model, 50 * rows).detach()
    cap = getattr(model.cfg, "output_logits_soft_cap", None) or 0
    own = cap * torch.atanh((own / cap).double()).float() if cap > 0 else own
    own = own - read_out(model, torch.zeros_like(rows)).detach() if cap <= 0 else own
    ours = direction_logits(model, rows)(torch.arange(model.cfg.d_vocab))
    for a, b in zip(own.double(), ours.double(), strict=True):
        assert float(torch.cosine_similarity(a, b, dim=0)) > 1 - 1e-6
        assert float(a @ b) > 0


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-gemma", "tiny-qwen", "tiny-llama", "tiny-mistral"])
def test_both_backends_give_the_same_lens(name, acts):
    if len(BACKENDS) < 2:
        pytest.skip("one backend only")
    a, b = (tiny(name, backend) for backend in BACKENDS)
    rows = _directions(a)
    torch.testing.assert_close(final_norm_scale(a)[0], final_norm_scale(b)[0], atol=1e-5, rtol=1e-5)
    assert final_norm_scale(a)[1] == final_norm_scale(b)[1] == (name == "tiny-gpt2")
    ids = torch.arange(a.cfg.d_vocab)
    torch.testing.assert_close(direction_logits(a, rows)(ids), direction_logits(b, rows)(ids), atol=1e-4, rtol=1e-4)
    state = 3 * rows[0]
    in_context = [state_logits(m, state, 2 * rows)(ids) for m in (a, b)]
    torch.testing.assert_close(*in_context, atol=1e-4, rtol=1e-4)


def test_in_context_equals_the_difference_of_two_readings(model):
    rows, state = _directions(model), 4 * _directions(model, 1, seed=9)[0]
    ids = torch.arange(7, model.cfg.d_vocab, 13)
    expected = (read_out(model, state + 2 * rows) - read_out(model, state[None])).detach()[:, ids]
    torch.testing.assert_close(state_logits(model, state, 2 * rows)(ids), expected, atol=1e-4, rtol=1e-4)


def test_one_pass_in_pieces_equals_the_whole_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    matrix = torch.from_numpy(rng.standard_normal((4, 300)) * 3 + 1)
    script = rng.integers(0, len(SCRIPTS), 100)
    words = Vocabulary(np.arange(0, 300, 3), tuple(map(str, range(100))), script)
    monkeypatch.setattr("lens_emotion.analysis.lens.PIECE", 17)
    found = scan(lambda ids: matrix[:, ids], words, k=20)
    seen = matrix[:, ::3].numpy()
    z = (seen - seen.mean(1, keepdims=True)) / seen.std(1, keepdims=True)
    order = np.argsort(-z, axis=1)
    np.testing.assert_array_equal(found.top, order[:, :20])
    np.testing.assert_array_equal(found.bottom, order[:, ::-1][:, :20])
    np.testing.assert_allclose(found.top_z, np.take_along_axis(z, order[:, :20], 1))
    np.testing.assert_allclose(found.bottom_z, np.take_along_axis(z, order[:, ::-1][:, :20], 1))
    for s in range(len(SCRIPTS)):
        np.testing.assert_allclose(found.script_z[:, s], z[:, script == s].mean(1))
        np.testing.assert_allclose(found.share_up[:, s], (script[order[:, :20]] == s).mean(1))


def test_a_direction_toward_a_token_puts_it_first_and_its_opposite_last(model, acts):
    words = vocabulary(model)
    reads = _reads(model)
    # the token with the longest row is its own best match (Cauchy-Schwarz)
    token = int(words.ids[reads[:, words.ids].norm(dim=0).argmax()])
    row = unit(reads[:, token])
    result = lens(model, _vectors(model, torch.stack([row, -row]), ("toward", "away"), acts.header), n_random=19)
    first = result.table.groupby(["emotion", "side"]).first()
    assert first.loc[("toward", "up"), "token_id"] == first.loc[("away", "down"), "token_id"] == token
    assert first.loc[("toward", "up"), "z"] == pytest.approx(-first.loc[("away", "down"), "z"])
    assert first.loc[("toward", "up"), "z"] > 1
    assert result.table["rank"].max() == 10 and len(result.table) == 40


def test_chinese_tokens_are_classified_and_a_planted_script_is_found(acts):
    model = tiny("tiny-qwen")
    words = vocabulary(model)
    han = words.ids[words.script == SCRIPTS.index("Han")]
    assert words.base_rate["Han"] > 0.15 and words.base_rate["Latin"] > 0.5
    assert sum(words.base_rate.values()) == pytest.approx(1)
    text = "快乐的小猫"
    ids = model.tokenizer(text, add_special_tokens=False).input_ids
    scripts = {SCRIPTS[words.script[list(words.ids).index(i)]] for i in ids}
    assert "Han" in scripts and scripts <= {"Han", BYTES}
    rows = torch.stack([_toward(model, han), _directions(model, 1, seed=5)[0]])
    result = lens(model, _vectors(model, rows, ("happy", "sad"), acts.header), n_random=99)
    found = result.scripts.set_index(["emotion", "side", "script"])
    planted, other = found.loc[("happy", "up", "Han")], found.loc[("sad", "up", "Han")]
    assert planted.share > 0.8 and planted.p_corrected == planted.z_p_corrected == 0.01
    assert planted.base_rate == pytest.approx(words.base_rate["Han"]) and planted.mean_z > 0.5
    assert other.p_corrected > 0.05 and found.loc[("happy", "down", "Han")].share < 0.1
    np.testing.assert_allclose(found.loc["happy"].groupby("side")["share"].sum(), 1)
    assert "happy Han" in result.summary() and "<table" in result._repr_html_()


def test_random_directions_of_either_kind_are_no_finding(llama, acts, vectors):
    texts = acts.values[:, 3].double()
    generator = torch.Generator().manual_seed(77)
    mixed = torch.randn(6, len(texts), generator=generator, dtype=torch.float64) @ (texts - texts.mean(0))
    random = _vectors(llama, unit(mixed).float(), tuple("abcdef"), vectors.header)
    result = lens(llama, random, 3, n_random=99, acts=acts)
    assert set(result.scripts["control"]) == {"isotropic", "matched"}
    assert "not distinguishable from noise" in result.summary()


def test_script_p_values_are_uniform_under_the_null():
    rng, p, z_p = np.random.default_rng(1), [], []
    for _ in range(300):
        share, z = rng.binomial(50, [0.6, 0.3, 0.1], (40, 3)) / 50, rng.standard_normal((40, 3)) * [1, 5, 2] + 3
        result = _against(share[0], share[1:], z[0], z[1:])
        p.append(result["p_corrected"].min())
        z_p.append(result["z_p_corrected"].min())
    assert kstest(np.array(z_p) - rng.random(300) / 40, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.1) < 0.14  # ties make it conservative, never liberal


def test_the_matched_control_has_the_covariance_of_the_texts(llama, acts, vectors):
    from lens_emotion.analysis.lens import random_controls

    rows = torch.zeros(50, 8)
    rows[:, 2] = torch.linspace(-1, 1, 50)
    controls = random_controls(8, 30, 0, rows + 100)
    assert float(controls["matched"][:, 2].abs().min()) > 0.999
    assert float(controls["isotropic"][:, 2].abs().mean()) < 0.6


def test_lens_takes_one_vector_a_mixture_and_a_state(llama, acts, vectors):
    whole = lens(llama, vectors, -1, n_random=9)
    one = lens(llama, vectors["happy"], -1, n_random=9)
    assert one.tokens("happy") == whole.tokens("happy") and whole.layer == vectors.n_layers - 1
    mixed = lens(llama, 0.5 * vectors["happy"] - vectors["sad"], -1, n_random=9)
    assert len(mixed.table) == 20
    at_mean = lens(llama, vectors["happy"], -1, n_random=9, at=acts)
    state = acts.values[:, -1].double().mean(0).float()
    same = lens(llama, vectors["happy"], -1, n_random=9, at=state)
    assert at_mean.table.equals(same.table) and at_mean.form == "in context, dose 1"


def test_top_beyond_k_does_not_change_the_shares(llama, vectors):
    a, b = (lens(llama, vectors["happy"], n_random=9, top=top, k=20) for top in (10, 60))
    np.testing.assert_allclose(a.scripts["share"], b.scripts["share"])
    assert b.table["rank"].max() == 60 and a.tokens("happy") == b.tokens("happy")


def test_wrong_models_and_options_are_refused(vectors, acts):
    llama = tiny()
    with pytest.raises(FingerprintError, match="allow_other_model"):
        lens(tiny("tiny-mistral"), vectors)
    with pytest.raises(UnsupportedModelError, match="shape"):
        lens(llama, replace(vectors, directions=unit(vectors.directions[..., :8])))
    with pytest.raises(AnalysisError, match="n_random"):
        lens(llama, vectors, n_random=0)
    with pytest.raises(AnalysisError, match="no layer"):
        lens(llama, vectors, 99)
    with pytest.raises(AnalysisError, match="there are"):
        lens(llama, vectors, n_random=1).tokens("joyous")


def test_pieces_of_characters_are_bytes_and_sentencepiece_keeps_its_space():
    assert vocabulary_module._piece_text("<0xE4>") is None and vocabulary_module._piece_text("<0x41>") == "A"
    assert vocabulary_module._piece_text("▁happy") == " happy"
    pieces = {0: "▁a", 1: "<0xE4>", 2: "<s>", 3: "快"}
    tokenizer = SimpleNamespace(
        backend_tokenizer=SimpleNamespace(decoder="Sequence(Replace, ByteFallback)"),
        added_tokens_decoder={2: SimpleNamespace(special=True)},
        convert_ids_to_tokens=lambda ids: [pieces[i] for i in ids],
        __len__=lambda self: 4,
    )
    tokenizer = type("Tokenizer", (), vars(tokenizer))()
    tokenizer.convert_ids_to_tokens = lambda ids: [pieces[i] for i in ids]
    words = vocabulary_module._read(tokenizer, 9, frozenset())
    assert words.ids.tolist() == [0, 1, 3] and words.texts == (" a", "<0xE4>", "快")
    assert [SCRIPTS[i] for i in words.script] == ["Latin", "bytes", "Han"]


def test_a_partial_character_of_a_byte_level_model_is_bytes():
    words = vocabulary(tiny("tiny-gpt2"))
    tokenizer = tiny("tiny-gpt2").tokenizer
    for i in np.flatnonzero(words.script == SCRIPTS.index(BYTES))[:20]:
        assert "\ufffd" in tokenizer.decode([int(words.ids[i])])
    assert not any("\ufffd" in text for i, text in enumerate(words.texts) if SCRIPTS[words.script[i]] != BYTES)
    assert not set(words.ids.tolist()) & set(tokenizer.all_special_ids)
