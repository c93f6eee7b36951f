"""From text to pooled activations: batches, pads and heads change nothing; wrong input is refused before any work."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny
from masks import random_masks

import lens_emotion as le
from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.errors import ArtifactError, ProcessedModelError, StimulusError, UnknownEmotionError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import activations_from_cache, extract_comprehension, extract_poolings
from lens_emotion.extraction.generation import extract_generation
from lens_emotion.extraction.pooling import last_token, middle_token, norm_sums, pool_cache, story_mean
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import plan_batches, residual_cache, shortcut
from lens_emotion.models.prompting import encode, pad, tokenise_text
from lens_emotion.models.sampling import Sampling
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import story_prompts
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

TEXTS = ("Anna was in the kitchen and she smiled.", "Ben walked.", "It rained at the market, and Nora read by the sea.")


def small(n_topics=2, emotions=("happy", "sad", "calm")):
    texts = load_stimuli("world-en", per_cell=1)
    return texts.only((*emotions, "neutral"), texts.topics[:n_topics])


def test_batch_equals_single_and_left_pad_equals_right_pad(model):
    rows = [encode(model, t) for t in TEXTS]
    right, right_mask = pad(rows, 0, "right")
    left, left_mask = pad(rows, 0, "left")
    a, b = residual_cache(model, right, right_mask), residual_cache(model, left, left_mask)
    for i, row in enumerate(rows):
        alone = residual_cache(model, torch.tensor([row]))
        for layer in range(model.cfg.n_layers):
            truth = alone[hook_name(layer)][0]
            for got in (a[hook_name(layer)][i, : len(row)], b[hook_name(layer)][i, -len(row) :]):
                torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-4)


def test_stopping_before_the_head_changes_nothing_and_the_head_does_not_run(model):
    ran = []
    tokens = torch.tensor([encode(model, TEXTS[0])])
    with model.hooks(
        fwd_hooks=[
            ("unembed.hook_in" if hasattr(model, "adapter") else "ln_final.hook_scale", lambda t, hook: ran.append(1))
        ]
    ):
        cache = residual_cache(model, tokens)
        assert ran == []
        with torch.no_grad(), shortcut(model):
            _, whole = model.run_with_cache(tokens, names_filter=[hook_name(i) for i in range(model.cfg.n_layers)])
        assert ran != []
    for layer in range(model.cfg.n_layers):
        assert torch.equal(cache[hook_name(layer)], whole[hook_name(layer)])


def test_residual_cache_leaves_no_hooks_behind(model):
    residual_cache(model, torch.tensor([encode(model, TEXTS[0])]))
    assert all(not point.fwd_hooks for point in model.hook_dict.values())


def test_story_mean_counts_from_the_first_content_token_under_either_padding():
    content = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    weights = story_mean(start=1).weights(content)
    assert weights.tolist() == [[0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]


@pytest.mark.parametrize(
    "pooling", [story_mean(), story_mean(start=2), last_token(), middle_token()], ids=lambda p: p.name
)
def test_pooling_weights_sum_to_one_and_stay_inside_the_content(pooling):
    for mask in random_masks(50, least=3):
        weights = pooling.weights(mask)
        torch.testing.assert_close(weights.sum(1), torch.ones(len(mask)))
        assert not weights[~mask].any()


def test_last_and_middle_token_take_the_tokens_they_say():
    content = torch.tensor([[0, 0, 1, 1, 1, 1, 0]]).bool()
    assert last_token().weights(content).argmax().item() == 5
    assert middle_token().weights(content).argmax().item() == 4  # first content position + 4 // 2


def test_pool_cache_equals_a_loop_over_tokens(llama):
    tokens, mask = pad([encode(llama, t) for t in TEXTS], 0)
    content = mask.clone()
    content[:, 0] = False
    cache = residual_cache(llama, tokens, mask)
    rows = pool_cache(cache, content, story_mean())
    norms = norm_sums(cache, content)
    for layer in range(llama.cfg.n_layers):
        hidden = cache[hook_name(layer)]
        total = 0.0
        for i in range(len(TEXTS)):
            kept = [hidden[i, p] for p in range(tokens.shape[1]) if content[i, p]]
            torch.testing.assert_close(rows[i, layer], torch.stack(kept).mean(0), rtol=1e-5, atol=1e-5)
            total += sum(float(v.norm()) for v in kept)
        assert float(norms[layer]) == pytest.approx(total, rel=1e-5)


def test_comprehension_does_not_depend_on_the_batch_size(llama):
    a = extract_comprehension(llama, small(), token_budget=1)
    b = extract_comprehension(llama, small(), token_budget=100_000)
    torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a.residual_norm, b.residual_norm, rtol=1e-4, atol=1e-5)
    assert a.records == b.records


def test_tokens_are_accounted_for(llama):
    for record in extract_comprehension(llama, small(), pooling=story_mean(start=3)).records:
        assert record.n_total == record.n_pooled + record.n_skipped + record.n_special
        assert record.n_skipped == 3
        assert record.n_special >= 1


def test_both_backends_give_the_same_activations(acts):
    from conftest import BACKENDS

    for backend in BACKENDS:
        again = extract_comprehension(tiny("tiny-llama", backend), load_stimuli("world-en", per_cell=1))
        torch.testing.assert_close(again.values, acts.values, rtol=1e-3, atol=1e-4)
        assert again.header.fingerprint == acts.header.fingerprint


def test_single_class_and_unknown_emotions_are_refused(llama):
    with pytest.raises(StimulusError, match="at least two"):
        extract_comprehension(llama, small(), emotions=["happy"])
    with pytest.raises(UnknownEmotionError, match="melancholic"):
        extract_comprehension(llama, small(), emotions=["happy", "melancholic"])


def test_a_bad_text_among_good_ones_is_found_before_any_forward_pass(llama, monkeypatch):
    from lens_emotion.extraction import reader

    monkeypatch.setattr(reader, "pooled_reader", lambda *a: pytest.fail("the model ran"))
    items = (*small().items, Stimulus("x", " ", "happy", "t"))
    with pytest.raises(StimulusError, match="empty"):
        extract_comprehension(llama, StimulusSet("bad", items))


def test_processed_models_are_refused_or_recorded(llama, monkeypatch):
    from lens_emotion.models import access

    monkeypatch.setattr(access, "is_processed", lambda model: True)
    with pytest.raises(ProcessedModelError):
        extract_comprehension(llama, small())
    assert extract_comprehension(llama, small(), allow_processed=True).header.processed


def test_activations_survive_the_disk_bit_for_bit(acts, tmp_path):
    again = PooledActivations.load(acts.save(tmp_path / "a.safetensors"))
    assert torch.equal(again.values, acts.values)
    assert torch.equal(again.residual_norm, acts.residual_norm)
    assert again.records == acts.records
    assert again.header == acts.header


@pytest.mark.parametrize("damage", ["truncate", "garbage", "other", "missing", "vectors"])
def test_damaged_files_are_named(acts, vectors, tmp_path, damage):
    path = acts.save(tmp_path / "a.safetensors")
    raw = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "garbage":
        path.write_bytes(b"\x00" * 200)
    elif damage == "other":
        path.write_text("{}")
    elif damage == "missing":
        path.unlink()
    else:
        vectors.save(path, overwrite=True)
    with pytest.raises(ArtifactError, match=r"a\.safetensors"):
        PooledActivations.load(path)


def test_unwritable_folder_is_one_clear_error(acts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        acts.save(tmp_path / "file" / "a.safetensors")


def test_batches_hold_every_text_once_within_the_budget():
    lengths = [3, 50, 7, 7, 120, 1, 33, 50]
    batches = plan_batches(lengths, 100)
    assert sorted(i for b in batches for i in b) == list(range(8))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100
    assert batches[0] == [4]


@pytest.mark.parametrize("preset", ["topic-crossed", "jeong"])
def test_generated_states_equal_reading_the_same_tokens_again(llama, preset):
    prompts = [p for p in story_prompts(preset, "world-en") if p.emotion in ("happy", "sad")][:4]
    prompts += [p for p in story_prompts(preset, "world-en") if p.emotion == "sad"][:4]
    prompts = list(dict.fromkeys(prompts))
    result = extract_generation(llama, prompts, preset=preset, max_new_tokens=40)
    story = result.stories.items[0]
    prompt = next(p for p in prompts if p.prompt_id == story.text_id)
    ids = encode(llama, prompt.text)
    new = llama.tokenizer(story.text, add_special_tokens=False).input_ids
    cache = residual_cache(llama, torch.tensor([[*ids, *new]]))
    hidden = torch.stack([cache[hook_name(i)][0] for i in range(llama.cfg.n_layers)])
    if preset == "jeong":
        expected = hidden[:, len(ids) + len(new) // 2]
        assert result.reread is None
    else:
        expected = hidden[:, len(ids) + 8 :].mean(1)
    torch.testing.assert_close(result.conditioned.values[0], expected, rtol=1e-3, atol=1e-4)


def test_conditioned_and_bare_states_differ_and_say_so(llama):
    prompts = [p for p in story_prompts("topic-crossed", "world-en") if p.emotion in ("happy", "sad")]
    result = extract_generation(llama, prompts, max_new_tokens=40, sampling=Sampling(0.8, 0.95, 1))
    assert not torch.allclose(result.conditioned.values, result.reread.values, atol=1e-3)
    assert (result.conditioned.header.variant, result.reread.header.variant) == (
        "topic-crossed, conditioned",
        "topic-crossed, reread",
    )
    assert result.conditioned.header.seed == 1


def test_jeong_preset_reads_the_last_prompt_token_of_very_short_stories(llama):
    from lens_emotion.extraction.generation import Story, _conditioned

    prompt = story_prompts("jeong", "world-en")[0]
    short = _conditioned(Story(prompt, (1, 2, 3), (4, 5), "x"), frozenset(), jeong=True)
    assert short.content == (False, False, True, False, False)
    longer = _conditioned(Story(prompt, (1, 2, 3), tuple(range(10, 22)), "x"), frozenset(), jeong=True)
    assert sum(longer.content) == 12
    for n, read in ((10, [2]), (11, list(range(3, 14)))):  # ten are few, eleven are not
        found = _conditioned(Story(prompt, (1, 2, 3), tuple(range(10, 10 + n)), "x"), frozenset(), jeong=True).content
        assert [i for i, is_read in enumerate(found) if is_read] == read


def test_greedy_duplicates_are_written_once_and_reported(llama):
    prompts = [p for p in story_prompts("jeong", "world-en") if p.emotion in ("happy", "sad")]
    result = extract_generation(llama, prompts, preset="jeong", max_new_tokens=30)
    assert len(result.stories) == 20
    assert len({s.text for s in result.stories.items}) <= 10
    assert any("distinct texts" in note for note in result.conditioned.header.notes)


def test_a_cache_at_hand_becomes_the_same_activations(llama):
    texts = small(n_topics=3)
    read = extract_comprehension(llama, texts)
    rows = [tokenise_text(llama, s.text) for s in texts.items]
    tokens, mask = pad([r.ids for r in rows], 0)
    content = pad([r.content for r in rows], 0)[0].bool()
    names = [hook_name(layer) for layer in range(llama.cfg.n_layers)]
    _, cache = llama.run_with_cache(tokens, names_filter=names, attention_mask=mask.long())
    labels = [s.emotion for s in texts.items], [s.topic for s in texts.items]
    own = activations_from_cache(llama, cache, content, *labels, texts=texts.texts)
    torch.testing.assert_close(own.values, read.values, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(own.residual_norm, read.residual_norm, rtol=1e-3, atol=1e-4)
    assert layer_sweep(own, n_permutations=20).table.value.tolist() == pytest.approx(
        layer_sweep(read, n_permutations=20).table.value.tolist(), abs=0.11
    )
    with pytest.raises(StimulusError, match="one label of each kind"):
        activations_from_cache(llama, cache, content, ["happy"], labels[1])
    with pytest.raises(StimulusError, match="resid_post"):
        activations_from_cache(llama, type(cache)({}, llama), content, *labels)


def test_several_poolings_of_one_pass_equal_one_pass_each(llama):
    texts = load_stimuli("world-en").only(emotions=("calm", "angry", "neutral"))
    poolings = [story_mean(), last_token(), middle_token()]
    together = extract_poolings(llama, poolings, texts)
    for pooling, acts in zip(poolings, together, strict=True):
        alone = extract_comprehension(llama, texts, pooling=pooling)
        # not to the bit: a product for three poolings at once is rounded otherwise on some processors
        torch.testing.assert_close(acts.values, alone.values, rtol=1e-6, atol=1e-5)
        assert acts.records == alone.records and acts.header == alone.header
        assert torch.equal(acts.residual_norm, alone.residual_norm)


def test_a_table_is_read_as_a_set_is_and_the_header_says_what_it_lacks(llama):
    table = load_stimuli("world-en", per_cell=1).only(["calm", "angry"]).table
    mine = extract_comprehension(llama, table, progress=False)
    assert torch.equal(mine.values, extract_comprehension(llama, le.stimuli_from(table), progress=False).values)
    assert mine.topics == tuple(dict.fromkeys(table["topic"])) and "No neutral texts" in mine.header.notes[0]
    assert le.separation(mine, n_permutations=2).forced
