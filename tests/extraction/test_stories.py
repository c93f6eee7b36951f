"""Which tokens of a story become its row, and what a norm is a mean of."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny
from planted import planted

from lens_emotion.errors import ContextLengthError
from lens_emotion.extraction import generation, reader
from lens_emotion.extraction.activations import TextRecord
from lens_emotion.extraction.comprehension import activations_from_cache, extract_comprehension
from lens_emotion.extraction.generation import (
    JEONG_SHORT,
    Story,
    _bare,
    _conditioned,
    extract_generation,
    write_stories,
)
from lens_emotion.extraction.pooling import last_token, middle_token, story_mean
from lens_emotion.extraction.reader import Reading, check_readings
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import TokenisedText, tokenise_text
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.stimuli.prompts import StoryPrompt
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

SAID = ("Anna smiled at the cat.", "Ben walked home.", "It rained and it rained at the market.")
OF = [(e, k) for e in ("calm", "angry", "neutral") for k in range(3)]
ITEMS = [Stimulus(f"{e}-{k}", f"{SAID[k]} She was {e}.", e, str(k)) for e, k in OF]
TEXTS = StimulusSet("mine", tuple(ITEMS))
PROMPT = StoryPrompt("p", "Tell of it.", "calm", "a")
END = 99


def story(n_new, prompt=(1, 2, 3)):
    return Story(PROMPT, prompt, tuple(range(10, 10 + n_new)), "x")


@pytest.mark.parametrize(
    ("start", "content"), [((), [0, 1, 1, 1]), ((0,), [0, 1, 1, 1, 1]), ((0, 0), [0, 0, 1, 1, 1, 1])]
)
def test_position_0_of_a_story_read_again_is_no_content_with_or_without_a_first_token(start, content):
    bare = _bare(story(4), frozenset({0, END}), start)
    assert bare.ids == (*start, 10, 11, 12, 13)
    assert list(map(int, bare.content)) == content


def test_special_tokens_of_a_story_are_no_content_in_either_form():
    told = replace(story(4), new_ids=(10, END, 12, 13))
    assert _bare(told, frozenset({END}), ()).content == (False, False, True, True)
    assert _conditioned(told, frozenset({END}), False).content == (False, False, False, True, False, True, True)


@pytest.mark.parametrize("n_new", [0, 1, JEONG_SHORT - 1, JEONG_SHORT, JEONG_SHORT + 1, 40])
def test_the_papers_token_is_the_middle_one_or_the_prompts_last(n_new):
    """prompt_len + generated_len // 2, or the last prompt token where 10 or fewer were generated."""
    found = _conditioned(story(n_new), frozenset(), jeong=True)
    weights = middle_token().weights(torch.tensor([found.content]))
    assert weights.argmax() == (2 if n_new <= JEONG_SHORT else 3 + n_new // 2) and weights.sum() == 1


def written(monkeypatch, prompts, sampling, tokens=40):
    """What is asked of the model: rows, new tokens and seeds of each batch; every row answers with its number."""
    asked = []

    def write(model, rows, new_tokens, sampling, seeds, read_as):
        asked.append((rows, new_tokens, seeds))
        return [((5 + len(asked), 5 + k), None) for k in range(len(rows))]

    monkeypatch.setattr(generation, "_write", write)
    return write_stories(tiny(), prompts, tokens, sampling, progress=False), asked


def test_equal_prompts_are_written_once_only_where_they_must_come_out_equal(monkeypatch):
    prompts = [PROMPT, replace(PROMPT, prompt_id="q"), replace(PROMPT, prompt_id="r", text="Tell of another.")]
    drawn, asked = written(monkeypatch, prompts, Sampling(0.8, 0.95, 2))
    (rows, _, seeds), *_ = asked
    assert len(rows) == 3 and len(set(seeds)) == 3 and all(s // 1_000_003 == 2 for s in seeds)
    assert len({s.new_ids for s in drawn}) == 3
    greedy, asked = written(monkeypatch, prompts, GREEDY)
    assert sum(len(rows) for rows, *_ in asked) == 2
    assert greedy[0].new_ids == greedy[1].new_ids != greedy[2].new_ids


def test_what_is_written_is_cut_to_the_room_behind_the_longest_prompt(monkeypatch):
    model = tiny()
    stories, asked = written(monkeypatch, [PROMPT, replace(PROMPT, text=PROMPT.text * 9)], GREEDY, tokens=10**6)
    assert {new for _, new, _ in asked} == {model.cfg.n_ctx - max(len(s.prompt_ids) for s in stories)}
    _, asked = written(monkeypatch, [PROMPT], GREEDY, tokens=40)
    assert {new for _, new, _ in asked} == {40}


@pytest.mark.parametrize(("n", "fits"), [(10, True), (11, False)])
def test_a_text_that_fills_the_context_is_read_and_no_longer_one(n, fits):
    read = Reading(TokenisedText(tuple(range(n)), (False, *[True] * (n - 1))), TextRecord("t", "calm", "a", "x"))
    model = SimpleNamespace(cfg=SimpleNamespace(n_ctx=10))
    if fits:
        check_readings(model, [read], [story_mean()])
    else:
        with pytest.raises(ContextLengthError):
            check_readings(model, [read], [story_mean()])


@pytest.fixture(scope="module")
def alone():
    """Content and states of every text, read by itself."""
    model, found = tiny(), []
    for item in ITEMS:
        read = tokenise_text(model, item.text)
        cache = residual_cache(model, torch.tensor([read.ids]))
        states = torch.stack([cache[hook_name(k)][0] for k in range(model.cfg.n_layers)], 1)
        found.append(states[torch.tensor(read.content)])
    return found


@pytest.mark.parametrize("pooling", [story_mean(start=3), last_token()], ids=lambda p: p.name)
def test_the_residual_norm_is_the_mean_over_all_content_tokens_whatever_is_pooled(alone, pooling):
    truth = torch.cat(alone).norm(dim=-1).mean(0)
    acts = extract_comprehension(tiny(), TEXTS, pooling=pooling)
    torch.testing.assert_close(acts.residual_norm, truth, rtol=1e-4, atol=1e-4)
    taken = {"story_mean(start=3)": lambda x: x[3:].mean(0), "last_token": lambda x: x[-1]}[pooling.name]
    for row, states in zip(acts.values, alone, strict=True):
        torch.testing.assert_close(row, taken(states), rtol=1e-3, atol=1e-4)


def test_a_batch_that_runs_in_halves_counts_the_norms_of_both(alone, monkeypatch):
    monkeypatch.setattr(reader, "run_halving", lambda rows, run, *a: run(rows[:2]) + run(rows[2:]))
    acts = extract_comprehension(tiny(), TEXTS)
    torch.testing.assert_close(acts.residual_norm, torch.cat(alone).norm(dim=-1).mean(0), rtol=1e-4, atol=1e-4)


def test_a_cache_of_ones_own_has_the_norm_of_its_content_not_of_what_is_pooled():
    model = tiny()
    read = tokenise_text(model, SAID[2])
    tokens = torch.tensor([read.ids, read.ids])
    cache = residual_cache(model, tokens)
    labels = {"emotions": ["calm", "sad"], "topics": ["a", "b"]}
    acts = activations_from_cache(model, cache, tokens=tokens, pooling=last_token(), **labels)
    content = torch.tensor(read.content)
    truth = torch.stack([cache[hook_name(k)][0][content].norm(dim=-1).mean() for k in range(model.cfg.n_layers)])
    torch.testing.assert_close(acts.residual_norm, truth, rtol=1e-5, atol=1e-5)


def test_conditioned_states_and_their_norm_are_those_of_the_story_alone(monkeypatch):
    """Rows and norms over the new tokens, however they were had."""
    prompts = [StoryPrompt(f"{e}{k}", f"Write of {e} {k}.", e, str(k)) for e in ("calm", "angry") for k in range(2)]
    model, made = tiny(), {}
    for capture in generation.CAPTURES:
        made[capture] = extract_generation(
            model, prompts, max_new_tokens=20, sampling=Sampling(1.0, 1.0, 1), pooling=story_mean(2), capture=capture
        )
    one, other = (made[c].conditioned for c in generation.CAPTURES)
    assert [r.n_pooled for r in one.records] == [r.n_pooled for r in other.records]
    torch.testing.assert_close(one.values, other.values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.residual_norm, other.residual_norm, rtol=1e-4, atol=1e-4)


def test_neutral_texts_stay_where_emotions_are_chosen():
    more = StimulusSet("more", (*ITEMS, Stimulus("s", SAID[0], "sad", "0")))
    acts = extract_comprehension(tiny(), more, emotions=["calm", "angry"])
    assert acts.emotions == ("calm", "angry") and len(acts.neutral) == 3


def test_depth_is_1_at_the_last_layer():
    acts = planted(n_layers=4).acts
    assert acts.depth.tolist() == [0.25, 0.5, 0.75, 1.0]
