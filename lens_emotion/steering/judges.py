"""Judges: texts -> probabilities over emotions. A judge is a callable with a name and a measured accuracy.

Every verdict prints the judge's accuracy on labelled text beside it, and says when the judge is not independent of the
model under test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import ModelUnavailableError, StimulusError, UnsupportedModelError
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord, codes
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, read_texts
from lens_emotion.files.artifacts import check_each, check_is, check_whole
from lens_emotion.files.names import check_labels, check_name
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model
from lens_emotion.models.checkpoint import check_encoder
from lens_emotion.models.loading import quiet_loading
from lens_emotion.models.prompting import TokenisedText, encode, special_ids
from lens_emotion.stats.design import homes_of
from lens_emotion.stats.tests import wilson_interval
from lens_emotion.stimuli.emotions import NEUTRAL, names
from lens_emotion.stimuli.lexicon import any_word
from lens_emotion.stimuli.sets import StimulusSet, has_text

Labels = Sequence[str] | np.ndarray
Score = Callable[[Sequence[str]], Float[np.ndarray, "n_texts n_emotions"]]
OWN_STATES = "not independent: it judges the model by its own states"
SAME_TEXTS = "trained on the texts that made the vectors"
SHARPNESS = 20.0  # turns cosines, which differ by hundredths, into probabilities; ranks do not depend on it


@dataclass(frozen=True)
class Judge:
    """A scorer of texts.

    Attributes:
        name: printed with every verdict.
        emotions: the columns of its scores.
        score: texts -> probabilities. Each row sums to 1, or to at most 1 over groups if the judge has other labels
            too; a classifier with independent labels gives numbers between 0 and 1.
        accuracy: share of labelled texts it classifies right, None if not measured; chance is 1 / number of groups.
        independent: False if the judge is the model under test (`beside` finds it by the fingerprint).
        n_labelled: number of texts behind the accuracy.
        groups: emotion -> label group, for a judge that cannot tell some emotions apart: emotions of one group get the
            same score, and hitting any of them counts as right. None: every emotion is its own group.
        fingerprint: of the model whose states judge; empty for other judges. It is independent of other models only.
        trained_on: name and sha256 of the texts it was made from, if there are any.
        note: what else its accuracy must not be read without.
    """

    name: str
    emotions: tuple[str, ...]
    score: Score
    accuracy: float | None = None
    independent: bool = True
    n_labelled: int = 0
    groups: Mapping[str, str] | None = None
    fingerprint: str = ""
    trained_on: tuple[str, str] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        check_name("the judge's name", self.name, error=StimulusError)
        check_each("the judge's emotions", self.emotions, str, StimulusError)
        check_labels("an emotion of the judge", self.emotions, StimulusError)
        check_is("the judge's groups", {} if self.groups is None else self.groups, Mapping, StimulusError)
        check_is("the judge's accuracy", self.accuracy, (float, int, np.floating, type(None)), StimulusError)
        if not self.emotions:
            raise StimulusError("the judge has no emotions; give at least one, each once")
        if self.groups and (missing := [e for e in self.emotions if e not in self.groups]):
            raise StimulusError(f"the judge's groups lack {', '.join(missing)[:80]}; give each emotion its group")
        measured = self.accuracy
        if measured is not None and not 0 <= measured <= 1:
            raise StimulusError(f"the judge's accuracy is {measured!r:.40}; give a share from 0 to 1, or None")
        check_whole("the judge's n_labelled", self.n_labelled)

    def beside(self, header: Header) -> Judge:
        """The judge of what vectors of this header do: whether it is independent of their model, and of their texts."""
        own = bool(self.fingerprint) and self.fingerprint == header.fingerprint
        shared = self.trained_on is not None and (header.stimuli, header.stimuli_sha256) != ("", "")
        name, sha256 = self.trained_on or ("", "")
        shared = shared and (sha256 == header.stimuli_sha256 or name == header.stimuli)
        return replace(self, independent=self.independent and not own, note=SAME_TEXTS if shared else self.note)

    def group(self, emotion: str) -> str:
        """The label group of an emotion; the emotion itself for most judges."""
        return self.groups[emotion] if self.groups else emotion

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the label groups."""
        return 1 / len({self.group(e) for e in self.emotions})

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """95% Wilson interval of the accuracy, None if it was not measured."""
        if self.accuracy is None or not self.n_labelled:
            return None
        return wilson_interval(round(self.accuracy * self.n_labelled), self.n_labelled)

    def __str__(self) -> str:
        measured, interval = "accuracy not measured", self.accuracy_interval
        if self.accuracy is not None:
            between = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
            measured = f"accuracy {self.accuracy:.2f}{between}, chance {self.chance:.2f}"
        shared = f"{round(1 / self.chance)} label groups" if self.groups else ""
        parts = [measured, shared, "" if self.independent else OWN_STATES, self.note]
        return f"{self.name} ({'; '.join(p for p in parts if p)})"


def calibrated(judge: Judge, labelled: StimulusSet) -> Judge:
    """The judge with its accuracy measured on labelled texts it was not made from (neutral ones left out).

    Raises:
        StimulusError: no labelled text is of an emotion that the judge knows.
    """
    check_is("labelled", labelled, StimulusSet, StimulusError)
    items = [s for s in labelled.items if s.emotion in judge.emotions]
    if not items:
        raise StimulusError(
            f"'{labelled.name}' holds no text of an emotion that {judge.name} knows ({', '.join(judge.emotions)}); "
            "give labelled texts of these"
        )
    fits = np.array([[judge.group(e) == judge.group(s.emotion) for e in judge.emotions] for s in items])
    scores = judge.score([s.text for s in items])
    first = scores == scores.max(1, keepdims=True)
    right = (fits & first).sum(1) / first.sum(1)  # equals are drawn between, not the first of them taken
    return replace(judge, accuracy=float(np.mean(right)), n_labelled=len(items))


def as_judge(
    scorer: Callable[[Sequence[str]], Any],
    emotions: Sequence[str],
    labelled: StimulusSet | None = None,
    name: str | None = None,
) -> Judge:
    """A judge from any callable of your own.

    Args:
        scorer: list of texts -> array [n_texts, n_emotions], or a list of dicts emotion -> score (0 if missing).
        emotions: the columns, in order.
        labelled: texts to measure its accuracy on.
        name: of the judge, in reports.

    Texts that hold nothing (spaces, control characters) are not shown to it: they get the uniform distribution.

    Raises:
        StimulusError: on use, if what it returns has another shape or is not finite.

    Example:
        >>> def score(texts):
        ...     return [{"calm": text.count("quiet"), "angry": text.count("!")} for text in texts]
        >>> le.as_judge(score, ("calm", "angry")).score(["quiet, quiet"]).shape
        (1, 2)
    """
    columns = names(emotions)
    known = name if name is not None else str(getattr(scorer, "__name__", type(scorer).__name__))

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        told = np.array([has_text(t) for t in texts], dtype=bool)
        out = np.full((len(texts), len(columns)), 1 / len(columns))
        if told.any():
            out[told] = asked([t for t, tells in zip(texts, told, strict=True) if tells])
        return out

    def asked(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        found = scorer(list(texts))
        if isinstance(found, Sequence) and all(isinstance(row, Mapping) for row in found):
            found = [[row.get(e, 0.0) for e in columns] for row in found]
        table = np.asarray(found, dtype=float)
        wanted = (len(texts), len(columns))
        if table.shape != wanted:
            raise StimulusError(
                f"the judge {known} gave shape {table.shape}; return scores of shape {wanted}: texts x "
                f"({', '.join(columns)})"
            )
        if not np.isfinite(table).all():
            raise StimulusError(f"the judge {known} gave scores that are not finite; return numbers for every text")
        return table

    judge = Judge(known, columns, score)
    return judge if labelled is None else calibrated(judge, labelled)


def word_count_judge(
    words: Mapping[str, Sequence[str]], labelled: StimulusSet | None = None, name: str = "word count"
) -> Judge:
    """Counts each emotion's own words; a text without any gets the uniform distribution.

    Args:
        words: emotion -> words that belong to it alone, in any language (scripts without spaces are counted too).
        labelled: texts to measure its accuracy on.
        name: of the judge, in reports.

    Example:
        >>> judge = le.word_count_judge({"calm": ["quiet"], "angry": ["shout"]})
        >>> judge.score(["They shout."]).round(2).tolist()
        [[0.01, 0.99]]
    """
    check_is("words", words, Mapping, StimulusError)
    for emotion, own in words.items():
        check_each(f"the words of {emotion!r:.40}", own, str, StimulusError)
    emotions = tuple(words)
    patterns = [any_word(words[e]) for e in emotions]

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        counts = np.array([[len(p.findall(t)) for p in patterns] for t in texts], dtype=float)
        counts = counts.reshape(len(texts), len(emotions))
        smoothed = counts + 0.01  # a text without any emotion word is undecided, not wrong
        return smoothed / smoothed.sum(1, keepdims=True)

    judge = Judge(name, emotions, score)
    return judge if labelled is None else calibrated(judge, labelled)


def world_words(name: str, language: str | None = None, shared: bool = False) -> dict[str, tuple[str, ...]]:
    """Emotion -> the words that only it uses in a tiny model's world ("world-en", "world-en-zh"), Chinese ones too.

    Args:
        language: "en" or "zh" for the words of one language; None for all of them.
        shared: also the words that an emotion shares with related ones (its groups).
    """
    from lens_emotion.stimuli.world import load_world

    world = load_world(name.removeprefix("world-"))
    found = {}
    for emotion, own in world.own_words.items():
        english = (*own, *world.shared_words[emotion]) if shared else own
        chinese = tuple(world.translations[w] for w in english if w in world.translations)
        found[emotion] = {"en": english, "zh": chinese}.get(language or "", (*english, *chinese))
    return found


def centroid_scores(
    values: Float[np.ndarray, "n d"], train: Float[np.ndarray, "m d"], labels: Labels, emotions: Sequence[str]
) -> Float[np.ndarray, "n k"]:
    """Softmax of centred cosines to the class means of the training rows."""
    means = np.stack([train[np.asarray(labels) == e].mean(0) for e in emotions])
    rows, centroids = values - means.mean(0), means - means.mean(0)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    logits = SHARPNESS * rows @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def held_out_accuracy(
    values: Float[np.ndarray, "n d"], labels: Labels, topics: Labels, texts: Sequence[str]
) -> float | None:
    """Accuracy of nearest centroids on centred cosine, leaving one topic out at a time, and with it the copies of its
    texts; None for texts of one topic, which cannot be held out."""
    labels_ = np.asarray(labels)
    home = homes_of(list(texts), codes(labels_), codes(np.asarray(topics)))[0]
    right = 0
    for topic in dict.fromkeys(home.tolist()):
        test = home == topic
        emotions = tuple(dict.fromkeys(labels_[~test].tolist()))  # one that is held out whole cannot be named
        if not emotions:
            return None
        scores = centroid_scores(values[test], values[~test], labels_[~test], emotions)
        right += int(sum(emotions[k] == e for k, e in zip(scores.argmax(1), labels_[test], strict=True)))
    return right / len(labels)


def states_judge(model: Model, acts: PooledActivations, layer: int, independent: bool = True) -> Judge:
    """Another model's emotion states read the text: nearest centroid at one layer, from its comprehension activations.

    Beside vectors of the same model (by its fingerprint) it says that it is not independent: a check, not an outside
    verdict. `independent=False` says so of a model that is the same in another way.

    Args:
        model: which reads the texts, unsteered.
        acts: labelled texts that this model has read.
        layer: where its states are read.
        independent: False if the steered model is the same in a way that fingerprints do not show.

    Example:
        >>> judge = le.states_judge(model, acts, layer=3)
        >>> len(judge.emotions)
        20
    """
    known = acts.emotional
    train = known.values[:, layer].numpy()
    labels, emotions = known.emotion.tolist(), acts.emotions
    special = special_ids(model)

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        readings = [Reading(_bare(model, t, special), TextRecord(str(i), "", "", t)) for i, t in enumerate(texts)]
        read = read_texts(model, readings, story_mean(), acts.header, progress=False)
        return centroid_scores(read.values[:, layer].numpy(), train, labels, emotions)

    h, texts = acts.header, [r.text for r in known.records]
    accuracy = held_out_accuracy(train, labels, known.topic.tolist(), texts)
    made: dict[str, Any] = {"fingerprint": h.fingerprint, "trained_on": (h.stimuli, h.stimuli_sha256)}
    name = f"states of {h.model}, layer {layer}"
    return Judge(name, emotions, score, accuracy, independent, len(labels), **made)


def _bare(model: Model, text: str, special: frozenset[int]) -> TokenisedText:
    """Any text, also an empty or very short one: position 0 counts if nothing else is there."""
    ids = encode(model, text)[: model.cfg.n_ctx]
    ids = ids if ids else encode(model, " ") or [0]
    content = [i > 0 and t not in special for i, t in enumerate(ids)]
    return TokenisedText(tuple(ids), tuple(content if any(content) else [True] * len(ids)))


def load_encoder(folder: str | Path) -> tuple[Any, Any]:
    """Tokenizer and weights of a sentence encoder.

    Raises:
        UnsupportedModelError: a decoder, by its config. ModelUnavailableError: they cannot be loaded.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils import cached_file

    optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        with quiet_loading():
            config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False).to_dict()
            check_encoder(config, str(folder), bool(cached_file(str(folder), "modules.json", **optional)))
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
            model = AutoModel.from_pretrained(str(folder), use_safetensors=True, trust_remote_code=False)
            return tokenizer, model.eval()
    except UnsupportedModelError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelUnavailableError(
            f"cannot load the judge from {folder}: {first}; give an encoder's folder"
        ) from error


@numbers_fit(StimulusError)
def sentence_encoder(folder: str | Path, batch_size: int = 32) -> Callable[[Sequence[str]], np.ndarray]:
    """A sentence encoder from a local folder or the hub, as a function of texts: means over tokens, of length 1.

    Args:
        folder: of the encoder, or its hub id.
        batch_size: texts per pass.

    Raises:
        UnsupportedModelError: a decoder. ModelUnavailableError: the encoder cannot be loaded.

    Example:
        >>> found = le.beyond_words(acts, model, encoder=le.sentence_encoder("path/to/MiniLM"))  # doctest: +SKIP
    """
    tokenizer, encoder = load_encoder(folder)

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> Float[np.ndarray, "n_texts d"]:
        parts: list[Tensor] = []
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                list(texts[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt"
            )
            hidden = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"][:, :, None]
            parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp_min(1), dim=-1))
        return torch.cat(parts).numpy()

    return embed


@numbers_fit(StimulusError)
def encoder_judge(folder: str | Path, labelled: StimulusSet, batch_size: int = 32) -> Judge:
    """A sentence encoder from a local folder or the hub: nearest centroid of labelled passages in its embedding space.

    Embeddings are means over tokens, scaled to length 1 (as MiniLM and most sentence encoders are used). Accuracy is
    measured leaving one topic out at a time. Where the passages are those that made the vectors, the judge says so
    wherever its accuracy stands.

    Args:
        folder: of the encoder, or its hub id.
        labelled: passages whose emotions are known.
        batch_size: texts per pass.

    Raises:
        UnsupportedModelError: a decoder. ModelUnavailableError: the encoder cannot be loaded.

    Example:
        >>> judge = le.encoder_judge("path/to/MiniLM", le.load_stimuli("passages"))  # doctest: +SKIP
    """
    embed = sentence_encoder(folder, batch_size)
    items = [s for s in labelled.items if s.emotion != NEUTRAL]
    emotions, labels = labelled.emotions, [s.emotion for s in items]
    train = embed([s.text for s in items])

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        return centroid_scores(embed([t or " " for t in texts]), train, labels, emotions)

    accuracy = held_out_accuracy(train, labels, [s.topic for s in items], [s.text for s in items])
    made: dict[str, Any] = {"n_labelled": len(labels), "trained_on": (labelled.name, labelled.sha256)}
    return Judge(f"sentence encoder {Path(folder).name}", emotions, score, accuracy, **made)


# From a judge's scores to the emotion that it names: nothing where several are equal.
UNDECIDED = "undecided"


def decided(scores: Float[np.ndarray, "n_texts n_emotions"], emotions: Sequence[str]) -> list[str]:
    """The emotion that each text's scores put first, or "undecided" where several are equal."""
    first = scores == scores.max(1, keepdims=True)
    return [emotions[row.argmax()] if row.sum() == 1 else UNDECIDED for row in first]
