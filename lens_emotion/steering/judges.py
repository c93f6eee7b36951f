"""Judges: texts -> probabilities over emotions. A judge is a callable with a name and a measured accuracy.

Every verdict prints the judge's accuracy on labelled text beside it, and says when the judge is not independent of the
model under test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import regex
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import ModelUnavailableError
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, read_texts
from lens_emotion.models.access import Model
from lens_emotion.models.loading import quiet_loading
from lens_emotion.models.prompting import TokenisedText, encode, special_ids
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.sets import StimulusSet

Labels = Sequence[str] | np.ndarray
Score = Callable[[Sequence[str]], Float[np.ndarray, "n_texts n_emotions"]]
SHARPNESS = 20.0  # turns cosines, which differ by hundredths, into probabilities; ranks do not depend on it


@dataclass(frozen=True)
class Judge:
    """A scorer of texts.

    Attributes:
        name: printed with every verdict.
        emotions: the columns of its scores.
        score: texts -> probabilities; each row sums to 1.
        accuracy: share of labelled texts it classifies right, None if not measured; chance is 1 / n_emotions.
        independent: False if the judge is the model under test.
    """

    name: str
    emotions: tuple[str, ...]
    score: Score
    accuracy: float | None = None
    independent: bool = True

    def __str__(self) -> str:
        measured = (
            f"accuracy {self.accuracy:.2f}, chance {1 / len(self.emotions):.2f}" if self.accuracy is not None else ""
        )
        parts = [measured or "accuracy not measured", "" if self.independent else "not independent of the model"]
        return f"{self.name} ({'; '.join(p for p in parts if p)})"


def calibrated(judge: Judge, labelled: StimulusSet) -> Judge:
    """The judge with its accuracy measured on labelled texts it was not made from (neutral ones left out)."""
    items = [s for s in labelled.items if s.emotion in judge.emotions]
    best = judge.score([s.text for s in items]).argmax(1)
    right = [judge.emotions[k] == s.emotion for k, s in zip(best, items, strict=True)]
    return replace(judge, accuracy=float(np.mean(right)))


def word_count_judge(
    words: Mapping[str, Sequence[str]], labelled: StimulusSet | None = None, name: str = "word count"
) -> Judge:
    """Counts each emotion's own words; a text without any gets the uniform distribution.

    Args:
        words: emotion -> words that belong to it alone, in any language (scripts without spaces are counted too).
        labelled: texts to measure its accuracy on.
    """
    emotions = tuple(words)
    patterns = [_any_of(words[e]) for e in emotions]

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        counts = np.array([[len(p.findall(t)) for p in patterns] for t in texts], dtype=float)
        counts = counts.reshape(len(texts), len(emotions))
        smoothed = counts + 0.01  # a text without any emotion word is undecided, not wrong
        return smoothed / smoothed.sum(1, keepdims=True)

    judge = Judge(name, emotions, score)
    return calibrated(judge, labelled) if labelled else judge


def world_words(name: str) -> dict[str, tuple[str, ...]]:
    """Emotion -> the words that only it uses in a tiny model's world ("world-en", "world-en-zh"), Chinese ones too."""
    from lens_emotion.stimuli.world import load_world

    world = load_world(name.removeprefix("world-"))
    return {
        emotion: (*own, *(world.translations[w] for w in own if w in world.translations))
        for emotion, own in world.own_words.items()
    }


def _any_of(words: Sequence[str]) -> regex.Pattern[str]:
    """Whole words in scripts with spaces; anywhere for Han."""
    spaced = [regex.escape(w) for w in words if not regex.search(r"\p{Han}", w)]
    han = [regex.escape(w) for w in words if regex.search(r"\p{Han}", w)]
    parts = ([r"\b(?:" + "|".join(spaced) + r")\b"] if spaced else []) + han
    return regex.compile("|".join(parts) or r"(?!)", regex.IGNORECASE)


def centroids(values: Float[np.ndarray, "n d"], labels: Labels, emotions: Sequence[str]) -> Float[np.ndarray, "k d"]:
    """Class means minus their mean, as unit vectors."""
    means = np.stack([values[np.asarray(labels) == e].mean(0) for e in emotions])
    centred = means - means.mean(0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def centroid_scores(
    values: Float[np.ndarray, "n d"], train: Float[np.ndarray, "m d"], labels: Labels, emotions: Sequence[str]
) -> Float[np.ndarray, "n k"]:
    """Softmax of centred cosines to the class means of the training rows."""
    centre = np.stack([train[np.asarray(labels) == e].mean(0) for e in emotions]).mean(0)
    rows = values - centre
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    logits = SHARPNESS * rows @ centroids(train, labels, emotions).T
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def held_out_accuracy(values: Float[np.ndarray, "n d"], labels: Labels, topics: Labels) -> float:
    """Accuracy of nearest centroids on centred cosine, leaving one topic out at a time."""
    labels_, topics_ = np.asarray(labels), np.asarray(topics)
    emotions = tuple(dict.fromkeys(labels))
    right = 0
    for topic in dict.fromkeys(topics):
        test = topics_ == topic
        scores = centroid_scores(values[test], values[~test], labels_[~test], emotions)
        right += int(sum(emotions[k] == e for k, e in zip(scores.argmax(1), labels_[test], strict=True)))
    return right / len(labels)


def states_judge(model: Model, acts: PooledActivations, layer: int, independent: bool = True) -> Judge:
    """Another model's emotion states read the text: nearest centroid at one layer, from its comprehension activations.

    Set `independent` to False when it is the model under test itself (unsteered): a check, not an outside verdict.
    """
    known = acts.emotional
    train = known.values[:, layer].numpy()
    labels, emotions = known.emotion.tolist(), acts.emotions
    special = special_ids(model)

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        readings = [Reading(_bare(model, t, special), TextRecord(str(i), "", "", t)) for i, t in enumerate(texts)]
        read = read_texts(model, readings, story_mean(), acts.header, progress=False)
        return centroid_scores(read.values[:, layer].numpy(), train, labels, emotions)

    accuracy = held_out_accuracy(train, labels, known.topic.tolist())
    return Judge(f"states of {acts.header.model}, layer {layer}", emotions, score, accuracy, independent)


def _bare(model: Model, text: str, special: frozenset[int]) -> TokenisedText:
    """Any text, also an empty or very short one: position 0 counts if nothing else is there."""
    ids = encode(model, text)[: model.cfg.n_ctx]
    ids = ids if ids else encode(model, " ") or [0]
    content = [i > 0 and t not in special for i, t in enumerate(ids)]
    return TokenisedText(tuple(ids), tuple(content if any(content) else [True] * len(ids)))


def encoder_judge(folder: str | Path, labelled: StimulusSet, batch_size: int = 32) -> Judge:
    """A sentence encoder from a local folder or the hub: nearest centroid of labelled passages in its embedding space.

    Embeddings are means over tokens, scaled to length 1 (as MiniLM and most sentence encoders are used). Accuracy is
    measured leaving one topic out at a time.

    Raises:
        ModelUnavailableError: the encoder cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            encoder = AutoModel.from_pretrained(str(folder), use_safetensors=True).eval()
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelUnavailableError(
            f"cannot load the judge from {folder}: {first}; give an encoder's folder"
        ) from error

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> Float[np.ndarray, "n_texts d"]:
        parts: list[Tensor] = []
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                list(texts[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt"
            )
            hidden = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"][:, :, None]
            parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(parts).numpy()

    items = [s for s in labelled.items if s.emotion != NEUTRAL]
    emotions, labels = labelled.emotions, [s.emotion for s in items]
    train = embed([s.text for s in items])

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        return centroid_scores(embed([t or " " for t in texts]), train, labels, emotions)

    accuracy = held_out_accuracy(train, labels, [s.topic for s in items])
    return Judge(f"sentence encoder {Path(folder).name}", emotions, score, accuracy)
