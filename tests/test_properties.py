"""Property-based tests: parsers, poolings, batches, records and checksums, on whatever hypothesis thinks of."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass, fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_emotion.errors import ArtifactError, LensEmotionError
from lens_emotion.extraction.activations import Header, TextRecord
from lens_emotion.extraction.pooling import last_token, middle_token, story_mean
from lens_emotion.files.artifacts import digest
from lens_emotion.files.user import record
from lens_emotion.models.forward import plan_batches, run_halving
from lens_emotion.models.layers import layers_in_words, resolve_layers
from lens_emotion.models.prompting import pad
from lens_emotion.run.config import parse_doses
from lens_emotion.vectors.emotion_vectors import parse_mixture

settings.register_profile("light", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("light")

NAMES = st.from_regex(r"[A-Za-z_]{1,8}", fullmatch=True)
WEIGHTS = st.decimals(min_value=0, max_value=99, places=3).map(float)
ANYTHING = st.text(max_size=30) | st.text("0123456789+-*., abc_e", max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from("+-"), WEIGHTS, NAMES), min_size=1, max_size=5))
def test_a_mixture_is_read_back_as_it_was_written(terms):
    words = " ".join(f"{sign} {weight:g}*{name}" for sign, weight, name in terms)
    expected = [((-1 if sign == "-" else 1) * float(f"{weight:g}"), name) for sign, weight, name in terms]
    sums: dict[str, float] = {}
    for weight, name in expected:
        sums[name] = sums.get(name, 0.0) + weight
    if any(sums.values()):
        assert parse_mixture(words) == expected
    else:
        with pytest.raises(LensEmotionError, match="all 0 in sum"):
            parse_mixture(words)


@given(ANYTHING)
def test_any_words_are_a_mixture_or_a_named_mistake(words):
    try:
        terms = parse_mixture(words)
    except LensEmotionError as error:
        assert str(error)
    else:
        assert terms and all(math.isfinite(weight) and name in words for weight, name in terms)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_doses_are_read_back_as_they_were_written(doses):
    assert parse_doses(",".join(map(repr, doses))) == tuple(doses)


@given(ANYTHING)
def test_any_words_are_doses_or_a_named_mistake(words):
    try:
        assert all(isinstance(d, float) for d in parse_doses(words))
    except LensEmotionError as error:
        assert str(error)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_layers_in_words_are_read_back(case):
    n, layers = case
    assert resolve_layers(layers_in_words(sorted(layers), n), n) == tuple(sorted(layers))


@given(st.text("0123456789-, al", max_size=40), st.integers(1, 60))
def test_any_words_are_layers_of_the_model_or_a_named_mistake(words, n):
    try:
        found = resolve_layers(words, n)
    except LensEmotionError as error:
        assert str(error)
    else:
        assert found == tuple(sorted(set(found))) and all(0 <= layer < n for layer in found)


@pytest.mark.parametrize("words", ["0-999999999", "9" * 5000, "3-99999999999999"])
def test_a_band_without_end_is_refused_at_once(words):
    with pytest.raises(LensEmotionError):
        resolve_layers(words, 6)


MASKS = st.integers(1, 24).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width).filter(any), min_size=1, max_size=6)
)


@given(MASKS, st.sampled_from([story_mean(), last_token(), middle_token()]))
def test_a_pooling_weighs_content_only_and_its_weights_sum_to_one(rows, pooling):
    mask = torch.tensor(rows)
    weights = pooling.weights(mask)
    assert bool((weights[~mask] == 0).all()) and bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(len(mask)))


@given(MASKS, st.integers(0, 6), st.sampled_from([story_mean(), last_token(), middle_token()]))
def test_a_pooling_does_not_see_on_which_side_or_how_much_is_padded(rows, extra, pooling):
    mask = torch.tensor(rows)
    none = torch.zeros(len(mask), extra, dtype=torch.bool)
    plain = pooling.weights(mask)
    assert torch.equal(pooling.weights(torch.cat([mask, none], 1))[:, : mask.shape[1]], plain)
    assert torch.equal(pooling.weights(torch.cat([none, mask], 1))[:, extra:], plain)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 2000))
def test_every_text_is_in_one_batch_and_batches_keep_to_their_budget(lengths, budget):
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert lengths[batch[0]] == longest


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40), st.integers(1, 40))
def test_halving_gives_every_row_once_and_in_order(rows, fits):
    def run(batch):
        if len(batch) > fits:
            raise torch.OutOfMemoryError
        return batch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it halves
        assert run_halving(rows, run) == rows


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=6), st.integers(0, 9))
def test_padding_on_either_side_keeps_every_row(rows, fill):
    for side in ("right", "left"):
        tokens, mask = pad(rows, fill, side)
        assert [t[m].tolist() for t, m in zip(tokens, mask, strict=True)] == rows
        assert bool((tokens[~mask] == fill).all())


@given(JSON)
def test_any_json_is_a_record_or_a_named_mistake(value):
    for cls in (TextRecord, Header):
        try:
            made = record(cls, value, "it")
        except ArtifactError as error:
            assert str(error).startswith("it")
        else:
            assert asdict(made).items() >= value.items()


@given(st.sampled_from([f.name for f in fields(TextRecord)]), JSON)
def test_a_field_of_a_record_has_its_type_or_is_refused(name, value):
    good = asdict(TextRecord("id", "calm", "sea", "She smiled."))
    wanted = type(good[name])
    try:
        assert getattr(record(TextRecord, good | {name: value}, "it"), name) == value
        assert type(value) is wanted
    except ArtifactError:
        assert type(value) is not wanted


@given(JSON.filter(lambda v: isinstance(v, dict)), JSON)
def test_a_checksum_is_that_of_the_content_and_survives_json(meta, other):
    tensors = {"x": torch.arange(6.0).reshape(2, 3)}
    found = digest(meta, tensors)
    assert found == digest(json.loads(json.dumps(meta)), {"x": tensors["x"].clone()})
    assert found != digest({**meta, "one more": other}, tensors)
    assert found != digest(meta, {"x": tensors["x"].reshape(3, 2)}) and found != digest(meta, {"y": tensors["x"]})
    assert found != digest(meta, {"x": tensors["x"] + 1e-6})


@dataclass(frozen=True)
class Numbers:
    """Every kind of field that a record may have."""

    a: int
    b: float
    c: str | None = None
    d: tuple[str, ...] = ()


@given(st.integers(), st.floats(allow_nan=False), st.none() | st.text(), st.lists(st.text(), max_size=3))
def test_a_record_is_read_back_from_its_json(a, b, c, d):
    made = Numbers(a, b, c, tuple(d))
    assert record(Numbers, json.loads(json.dumps(asdict(made))), "it") == made
