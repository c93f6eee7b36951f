"""Judges: classifiers with label maps, callables of your own, and accuracy that is always printed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lens_emotion.errors import ModelUnavailableError, StimulusError
from lens_emotion.steering.classifier_judge import EKMAN, GO_EMOTIONS, LABEL_MAPS, classifier_judge
from lens_emotion.steering.judges import Judge, as_judge, calibrated, word_count_judge, world_words
from lens_emotion.stimuli.emotions import EMOTIONS
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

EKMAN_LABELS = ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"]
GO_LABELS = [
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
]  # fmt: skip
WORDS = ["glad", "sorry", "scared", "cross", "day"]


def save_classifier(folder, labels, problem=None, base_only=False):
    """A random two-layer BERT whose tokens are a handful of words; returns it, to compute by hand."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type=problem,
        initializer_range=0.5,
    )
    model = (BertModel if base_only else BertForSequenceClassification)(config).eval()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return model, fast


def logits(model, tokenizer, text):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0]


def test_softmax_scores_are_the_probabilities_of_the_mapped_labels(tmp_path):
    model, tokenizer = save_classifier(tmp_path, EKMAN_LABELS)
    judge = classifier_judge(tmp_path)
    texts = ["glad day", "sorry sorry day scared", ""]
    found = judge.score(texts)
    expected = logits(model, tokenizer, texts[0]).softmax(-1)
    assert judge.emotions == tuple(e for e in EMOTIONS if e in EKMAN)
    for emotion, label in (("happy", "joy"), ("blissful", "joy"), ("afraid", "fear"), ("hostile", "anger")):
        got = found[0, judge.emotions.index(emotion)]
        assert got == pytest.approx(float(expected[EKMAN_LABELS.index(label)]), rel=1e-4)
    assert found.shape == (3, len(EKMAN))
    np.testing.assert_allclose(found[1], judge.score(texts[1:2])[0], rtol=1e-4)  # padding changes nothing


def test_sigmoid_is_used_where_the_config_says_several_labels(tmp_path):
    model, tokenizer = save_classifier(tmp_path, GO_LABELS, "multi_label_classification")
    judge = classifier_judge(tmp_path)
    found = judge.score(["cross day"])[0]
    expected = logits(model, tokenizer, "cross day").sigmoid()
    assert found[judge.emotions.index("proud")] == pytest.approx(float(expected[GO_LABELS.index("pride")]), rel=1e-4)
    sad = max(float(expected[GO_LABELS.index(label)]) for label in ("sadness", "grief", "disappointment"))
    assert found[judge.emotions.index("gloomy")] == pytest.approx(sad, rel=1e-4)
    assert {"calm", "desperate", "reflective"} == set(EMOTIONS) - set(judge.emotions)
    assert "without calm, desperate, reflective" in str(judge)


def test_a_softmax_group_of_several_labels_gets_their_sum(tmp_path):
    model, tokenizer = save_classifier(tmp_path, EKMAN_LABELS)
    judge = classifier_judge(tmp_path, {"afraid": ("fear", "surprise"), "happy": "joy"})
    expected = logits(model, tokenizer, "glad").softmax(-1)
    assert judge.emotions == ("happy", "afraid")
    assert judge.score(["glad"])[0, 1] == pytest.approx(float(expected[2] + expected[6]), rel=1e-4)


def test_declared_maps_name_our_emotions_and_their_labels_only():
    assert len(LABEL_MAPS) == 2
    for chosen, labels in ((EKMAN, EKMAN_LABELS), (GO_EMOTIONS, GO_LABELS)):
        assert set(chosen) <= set(EMOTIONS)
        assert {label for found in chosen.values() for label in found} <= set(labels)


def test_labels_that_are_the_emotions_own_names_need_no_map(tmp_path):
    save_classifier(tmp_path, ["calm", "angry", "other"])
    judge = classifier_judge(tmp_path)
    assert judge.emotions == ("calm", "angry")
    assert judge.groups is None and judge.chance == 0.5


def test_wrong_label_maps_are_refused_by_name(tmp_path):
    save_classifier(tmp_path, ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(StimulusError, match=r"LABEL_0, LABEL_1.*label_map"):
        classifier_judge(tmp_path)
    with pytest.raises(StimulusError, match="no label rage"):
        classifier_judge(tmp_path, {"angry": "rage", "calm": "LABEL_0"})
    with pytest.raises(StimulusError, match="overlap"):
        classifier_judge(tmp_path, {"angry": ("LABEL_0", "LABEL_1"), "calm": "LABEL_0"})
    with pytest.raises(StimulusError, match="at least 2"):
        classifier_judge(tmp_path, {"angry": "LABEL_0", "hostile": "LABEL_0"})
    with pytest.raises(StimulusError, match="no label given for calm"):
        classifier_judge(tmp_path, {"angry": "LABEL_0", "calm": ()})
    with pytest.raises(StimulusError, match="'auto'"):
        classifier_judge(tmp_path, "ekman")


def test_what_is_no_trained_classifier_is_refused(tmp_path):
    save_classifier(tmp_path / "base", EKMAN_LABELS, base_only=True)
    with pytest.raises(ModelUnavailableError, match="no trained classifier"):
        classifier_judge(tmp_path / "base")
    with pytest.raises(ModelUnavailableError, match=r"give the folder.*model\.safetensors"):
        classifier_judge(tmp_path / "nothing")


def test_long_texts_are_cut_and_not_refused(tmp_path):
    save_classifier(tmp_path, EKMAN_LABELS)
    assert np.isfinite(classifier_judge(tmp_path).score(["glad " * 500])).all()


def labelled(*pairs):
    return StimulusSet("mine", tuple(Stimulus(str(i), t, e, "topic") for i, (t, e) in enumerate(pairs)))


def test_right_means_the_right_label_group_and_chance_counts_groups():
    groups = {"happy": "joy", "blissful": "joy", "sad": "sadness"}

    def score(texts):
        return np.array([[0.9, 0.9, 0.1] if "glad" in t else [0.2, 0.2, 0.8] for t in texts])

    judge = Judge("three", ("happy", "blissful", "sad"), score, groups=groups)
    texts = labelled(("glad", "happy"), ("glad", "blissful"), ("cry", "sad"), ("cry", "happy"), ("x", "angry"))
    measured = calibrated(judge, texts)
    assert measured.accuracy == 0.75
    assert measured.n_labelled == 4
    assert judge.chance == 0.5
    low, high = measured.accuracy_interval
    assert 0.25 < low < 0.75 < high < 1.0
    assert "accuracy 0.75 [0.30, 0.95], chance 0.50; 2 label groups" in str(measured)


def test_a_classifier_is_calibrated_on_labelled_passages(tmp_path):
    save_classifier(tmp_path, EKMAN_LABELS)
    texts = labelled(*[(w, e) for w in ("glad", "sorry", "cross") for e in ("happy", "sad", "angry", "calm")])
    judge = classifier_judge(tmp_path, labelled=texts)
    assert judge.n_labelled == 9  # calm has no label
    best = [judge.group(judge.emotions[k]) for k in judge.score(["glad", "sorry", "cross"]).argmax(1)]
    expected = sum(label in ("joy", "sadness", "anger") for label in best) / 9  # each text stands under all three
    assert judge.accuracy == pytest.approx(expected)
    assert f"accuracy {expected:.2f} [" in str(judge) and "chance 0.25" in str(judge)


def test_any_callable_is_a_judge():
    def mine(texts):
        return [{"happy": float("glad" in t), "sad": float("cry" in t)} for t in texts]

    texts = labelled(("glad", "happy"), ("cry", "sad"))
    judge = as_judge(mine, ("happy", "sad", "calm"), texts)
    assert judge.name == "mine" and judge.accuracy == 1.0
    np.testing.assert_array_equal(judge.score(["glad", "cry"]), [[1, 0, 0], [0, 1, 0]])
    assert judge.score([]).shape == (0, 3)
    table = as_judge(lambda t: np.ones((len(t), 2), dtype=np.float32), ("happy", "sad"), name="ones")
    assert table.score(["a"]).dtype == float
    assert "not measured" in str(table)


def test_a_callable_that_returns_nonsense_is_told_what_fits():
    narrow = as_judge(lambda t: np.ones((len(t), 3)), ("happy", "sad"), name="narrow")
    with pytest.raises(StimulusError, match=r"narrow gave shape \(2, 3\).*\(2, 2\)"):
        narrow.score(["a", "b"])
    with pytest.raises(StimulusError, match="finite"):
        as_judge(lambda t: np.full((len(t), 2), np.nan), ("happy", "sad")).score(["a"])
    with pytest.raises(StimulusError, match="no text of an emotion"):
        as_judge(lambda t: np.ones((len(t), 2)), ("happy", "sad"), labelled(("x", "angry")))


def test_word_counts_print_accuracy_with_its_interval():
    judge = word_count_judge(world_words("world-en"), load_stimuli("world-en", per_cell=1))
    assert judge.n_labelled == 240
    assert "accuracy" in str(judge) and "[" in str(judge) and "chance 0.05" in str(judge)


def test_words_of_the_world_can_be_had_by_language_and_with_shared_ones():
    english, chinese = world_words("world-en-zh", "en"), world_words("world-en-zh", "zh")
    both, shared = world_words("world-en-zh"), world_words("world-en-zh", "zh", shared=True)
    for emotion in EMOTIONS:
        assert both[emotion] == (*english[emotion], *chinese[emotion])
        assert all(not w.isascii() for w in chinese[emotion])
        assert set(chinese[emotion]) < set(shared[emotion])


def test_a_text_without_emotion_words_is_undecided_not_the_first_emotion():
    from lens_emotion.steering.judges import decided

    judge = word_count_judge({"happy": ["glad"], "sad": ["grief"], "calm": ["still"]})
    scores = judge.score(["glad and glad", "nothing here", "grief and still", "still"])
    assert decided(scores, judge.emotions) == ["happy", "undecided", "undecided", "calm"]


def test_equal_scores_count_as_a_draw_in_the_accuracy():
    items = [Stimulus(str(i), text, emotion, "t") for i, (text, emotion) in enumerate(
        [("glad", "happy"), ("nothing", "happy"), ("nothing", "sad"), ("grief", "sad")])]  # fmt: skip
    judge = word_count_judge({"happy": ["glad"], "sad": ["grief"]}, StimulusSet("four", tuple(items)))
    assert judge.accuracy == 0.75  # two right, two drawn between two
