"""Laws of doses, layers in words, and doses solved for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from steered import OTHER, PROMPT, no_hooks_left, vectors_of

import lens_emotion as le
from lens_emotion.errors import AnalysisError, DoseError, LayerError
from lens_emotion.models.access import hook_name
from lens_emotion.models.layers import layers_in_words, resolve_layers
from lens_emotion.models.prompting import encode, tokenise_text
from lens_emotion.steering.dose import Dose, as_dose, mean_units
from lens_emotion.steering.solve import iso_kl, solve_edge, solve_kl
from lens_emotion.steering.steer import steer
from lens_emotion.vectors.interchange import displacements, read_control_file


def plain_kl(model, vector, dose, texts, layers):
    """Mean KL(steered || unsteered) of the next token, one text at a time, with whole logits."""
    total, n = 0.0, 0
    for text in texts:
        tokens, content = torch.tensor([encode(model, text)]), torch.tensor(tokenise_text(model, text).content)
        with torch.inference_mode():
            q = model(tokens)[0].double().log_softmax(-1)
            with steer(model, vector, dose, layers=layers):
                p = model(tokens)[0].double().log_softmax(-1)
        total += float((p.exp() * (p - q)).sum(-1)[content].sum())
        n += int(content.sum())
    return total / n


def test_bands_and_words_name_the_layers_they_say():
    assert resolve_layers("10-12", 20) == (10, 11, 12)
    assert resolve_layers(" 3, 8 - 9 ", 20) == (3, 8, 9)
    assert resolve_layers("5", 6) == (5,)
    assert resolve_layers(range(2, 5), 6) == (2, 3, 4)
    for layers in ((0,), (1, 2, 3), (0, 2, 3, 5), tuple(range(6))):
        assert resolve_layers(layers_in_words(layers, 6), 6) == layers
    for bad, said in (("4-2", "2-4"), ("2-9", "no layer 6"), ("middle", "band"), ("", "band"), (range(0), "at least")):
        with pytest.raises(DoseError, match=said):
            resolve_layers(bad, 6)


def test_mean_units_over_layers_are_means_of_the_layers_units():
    calm = vectors_of(tiny())["calm"]
    natural, relative = mean_units(calm, Dose(0.3, "relative"), (1, 3))
    assert relative == pytest.approx(0.3, rel=1e-5)
    assert natural == pytest.approx(np.mean([Dose(0.3, "relative").in_units(calm, k)[0] for k in (1, 3)]), rel=1e-6)


def test_a_solved_dose_has_the_kl_it_was_solved_for(model):
    vector, texts = vectors_of(model)["calm"], [PROMPT, OTHER + " to the market."]
    solved = solve_kl(model, vector, texts, 0.2)
    assert solved.kl == pytest.approx(0.2, rel=0.02)
    assert plain_kl(model, vector, solved.dose, texts, None) == pytest.approx(solved.kl, rel=1e-3)
    assert solved.dose_natural == pytest.approx(solved.dose.value)
    assert no_hooks_left(model)


def test_iso_kl_of_many_equals_one_by_one_in_either_unit(llama):
    vectors, texts = vectors_of(llama), [PROMPT, OTHER]
    for unit, layers in (("natural", 2), ("relative", "all")):
        together = iso_kl(llama, vectors, texts, 0.1, layers, unit=unit, tol=0.005)
        for emotion in vectors:
            alone = solve_kl(llama, vectors[emotion], texts, 0.1, layers, unit=unit, tol=0.005)
            assert together.dose(emotion).value == pytest.approx(alone.dose.value, rel=2e-2)
            assert together.dose(emotion).unit == unit
        assert (together.table.kl - 0.1).abs().max() <= 5e-4
        assert together.table.n_evaluations.sum() == len(together.evaluations)
        assert "0.1 nats" in together.summary()


def test_a_smaller_kl_takes_a_smaller_dose(llama):
    calm = vectors_of(llama)["calm"]
    doses = [solve_kl(llama, calm, [PROMPT], kl).dose.value for kl in (0.001, 0.05, 0.5)]
    assert doses == sorted(doses)


def test_a_kl_out_of_reach_is_an_error_that_says_what_was_reached(llama):
    calm = vectors_of(llama)["calm"]
    with pytest.raises(DoseError, match=r"out of reach for 'calm': at dose 2.*nats"):
        solve_kl(llama, calm, [PROMPT], 50.0, highest=2.0)
    with pytest.raises(DoseError, match="not met"):
        solve_kl(llama, calm, [PROMPT], 0.1, tol=1e-9, max_evaluations=3)
    for kl in (0.0, -1.0):
        with pytest.raises(DoseError, match="positive"):
            solve_kl(llama, calm, [PROMPT], kl)
    with pytest.raises(DoseError, match="nothing to solve"):
        iso_kl(llama, [], [PROMPT], 0.1)


def test_a_kl_that_falls_as_the_dose_rises_is_told(llama, monkeypatch):
    from lens_emotion.steering import solve

    def bent(model, texts, done, reference):
        return [float(np.interp(d.dose.value, [0, 1, 2, 4], [0.0, 0.5, 0.2, 2.0])) for d in done]

    monkeypatch.setattr(solve, "mean_kl", bent)
    calm = vectors_of(llama)["calm"]
    result = iso_kl(llama, [calm], [PROMPT], 1.0)
    assert not result.table.monotone.any() and "does not rise steadily" in result.summary()
    assert solve_kl(llama, calm, [PROMPT], 0.4).monotone


@pytest.mark.parametrize("edge", [0.3, 3.3, 7.95])
def test_an_edge_is_bracketed_to_the_tolerance_in_logarithmically_many_steps(edge):
    found = solve_edge(lambda dose: "explosive" if dose >= edge else "surgical", 0, 8, 0.05)
    assert found.low < edge <= found.high and found.high - found.low <= 0.05
    assert (found.before, found.after) == ("surgical", "explosive")
    assert found.n_evaluations <= 2 + np.ceil(np.log2(8 / 0.05))
    assert abs(found.dose - edge) <= 0.025


def test_of_several_edges_the_one_where_the_first_label_ends_is_found():
    found = solve_edge(lambda dose: ["inert", "surgical", "explosive"][(dose > 2) + (dose > 4.5)], 0, 8, 0.1)
    assert found.low <= 2 <= found.high
    assert (found.before, found.after) == ("inert", "surgical")


def test_brackets_without_an_edge_are_refused():
    with pytest.raises(DoseError, match="both ends"):
        solve_edge(lambda dose: True, 0, 1)
    for low, high, tol in ((1, 1, 0.1), (2, 1, 0.1), (0, 1, 0)):
        with pytest.raises(DoseError, match="low < high"):
            solve_edge(lambda dose: dose > 0.5, low, high, tol)


def test_layers_are_read_alike_wherever_they_are_given(vectors, tmp_path):
    calm = vectors["calm"]
    for words, wanted in (("1-2", [1, 2]), ("3,4-5", [3, 4, 5]), (-1, [5]), ([2, -2], [2, 4]), (None, [3])):
        assert sorted(displacements(calm, 1.0, words)) == wanted
        hooked = {name for name, _ in le.steering_hooks(calm, 1.0, layers=words)}
        assert {hook_name(layer) for layer in range(6)} & hooked == {hook_name(layer) for layer in wanted}
        assert set(read_control_file(le.to_gguf(calm, tmp_path / "v.gguf", layers=words)).directions) == set(wanted)


def test_a_layer_that_does_not_exist_is_refused_in_the_same_words(vectors, acts):
    said = r"^no layer 6: the model has layers 0 to 5 \(or -6 to -1\)$"
    asks = (
        lambda: resolve_layers("5-6", 6),
        lambda: le.steer(tiny(), vectors["calm"], 1.0, layers=6).__enter__(),
        lambda: displacements(vectors["calm"], 1.0, [6]),
        lambda: vectors.at(6),
        lambda: vectors["calm"].at(6),
        lambda: le.similarity(vectors, 6),
        lambda: le.probe(acts, layers=[6]),
    )
    for ask in asks:
        with pytest.raises(LayerError, match=said):
            ask()
    assert issubclass(LayerError, DoseError) and issubclass(LayerError, AnalysisError)
    package = Path(le.__file__).parent
    assert [f.name for f in package.rglob("*.py") if "no layer {" in f.read_text(encoding="utf-8")] == ["layers.py"]


@pytest.mark.parametrize("dose", [None, "3", True, np.True_, torch.tensor(True), [1.0], 1j, float("nan"), 1e9])
def test_a_dose_is_a_number(dose, vectors, untyped):
    with pytest.raises(DoseError, match="is no number"):
        steer(tiny(), vectors["happy"], dose).__enter__()
    with pytest.raises(DoseError, match="is no number"):
        Dose(dose)


@pytest.mark.parametrize("dose", [None, "3", True, [1.0]])
def test_a_dose_in_a_file_is_a_number(dose, vectors, untyped):
    with pytest.raises(DoseError, match="is no number"):
        displacements(vectors["happy"], dose)


@pytest.mark.parametrize("dose", [2, 2.0, np.float32(2), np.int64(2), torch.tensor(2.0), np.array(2), Dose(2)])
def test_numbers_of_any_library_are_doses(dose):
    assert as_dose(dose) == Dose(2.0)
