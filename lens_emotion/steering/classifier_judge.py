"""A Hugging Face text classifier as a judge, with a declared map from our emotions to its labels.

A classifier rarely has our twenty emotions. The map says which of its labels stand for each emotion; emotions it has no
label for are left out and named in the judge's name. Emotions with the same labels form a label group: the classifier
cannot tell them apart, so they get the same score, and "right" means the right group. Groups may not overlap otherwise,
or a wide group would always beat a narrow one inside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from lens_emotion.errors import ModelUnavailableError, StimulusError
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.loading import quiet_loading
from lens_emotion.steering.judges import Judge, calibrated
from lens_emotion.stimuli.emotions import EMOTIONS
from lens_emotion.stimuli.sets import StimulusSet

LabelMap = Mapping[str, tuple[str, ...] | str]

# Our judgement, from the label names and their published definitions. No label: calm, desperate, reflective, guilty.
EKMAN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("happy", "proud", "hopeful", "enthusiastic", "loving", "blissful", "grateful"), ("joy",)),
    **dict.fromkeys(("sad", "brooding", "gloomy"), ("sadness",)),
    **dict.fromkeys(("afraid", "nervous", "anxious"), ("fear",)),
    **dict.fromkeys(("angry", "hostile", "exasperated"), ("anger",)),
}
# No label: calm, desperate, reflective.
GO_EMOTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("happy", "blissful"), ("joy",)),
    **dict.fromkeys(("sad", "gloomy", "brooding"), ("sadness", "grief", "disappointment")),
    **dict.fromkeys(("angry", "hostile"), ("anger",)),
    **dict.fromkeys(("nervous", "anxious"), ("nervousness",)),
    "afraid": ("fear",),
    "proud": ("pride",),
    "guilty": ("remorse",),
    "hopeful": ("optimism",),
    "enthusiastic": ("excitement",),
    "loving": ("love", "caring"),
    "exasperated": ("annoyance",),
    "grateful": ("gratitude",),
}
LABEL_MAPS: dict[str, dict[str, tuple[str, ...]]] = {
    "j-hartmann/emotion-english-distilroberta-base": EKMAN,
    "SamLowe/roberta-base-go_emotions": GO_EMOTIONS,
}


@numbers_fit(StimulusError)
def classifier_judge(
    folder_or_id: str | Path,
    label_map: LabelMap | str = "auto",
    labelled: StimulusSet | None = None,
    *,
    batch_size: int = 32,
    revision: str | None = None,
    device: str | torch.device = "cpu",
) -> Judge:
    """A text classifier from a local folder or the hub as a judge of emotions.

    Scores are probabilities: a softmax over all labels, or one sigmoid per label if the model's config says
    `problem_type = "multi_label_classification"`. A group of several labels gets their sum (softmax) or the largest
    (sigmoid). Texts are cut at the classifier's own length.

    Args:
        label_map: emotion -> the classifier's label or labels; "auto" takes the map declared here that fits its labels
            (`EKMAN`, `GO_EMOTIONS`), or the emotions' own names if the classifier uses them.
        labelled: passages to measure its accuracy on; without them the accuracy is "not measured".
        revision: branch, tag or commit on the hub, for a repository whose safetensors weights live on another branch.
        folder_or_id: of the classifier.
        batch_size: texts per pass.
        device: where it runs.

    Raises:
        ModelUnavailableError: the classifier cannot be loaded, or is no classifier.
        StimulusError: labels that the classifier does not have, groups that overlap, no declared map that fits.

    Example:
        >>> judge = le.classifier_judge("path/to/classifier", {"calm": "neutral", "angry": "anger"})  # doctest: +SKIP
    """
    tokenizer, model, labels, chosen = load_classifier(folder_or_id, label_map, revision)
    model.to(device)
    name = Path(folder_or_id).name
    emotions = tuple(dict.fromkeys(e for e in (*EMOTIONS, *chosen) if e in chosen))
    places = {label.lower(): i for i, label in enumerate(labels)}
    columns = [[places[label.lower()] for label in chosen[e]] for e in emotions]
    several = getattr(model.config, "problem_type", None) == "multi_label_classification"

    def score(texts: Sequence[str]) -> Float[np.ndarray, "n_texts n_emotions"]:
        found = _probabilities(tokenizer, model, texts, batch_size, several)
        grouped = [found[:, c].max(1) if several else found[:, c].sum(1) for c in columns]
        return np.stack(grouped, 1).astype(float)

    groups = {e: "+".join(sorted(chosen[e])) for e in emotions}
    shared = len(set(groups.values())) < len(emotions)
    missing = [e for e in EMOTIONS if e not in emotions]
    known = f"classifier {name}" + (f" without {', '.join(missing)}" if missing else "")
    judge = Judge(known, emotions, score, groups=groups if shared else None)
    return judge if labelled is None else calibrated(judge, labelled)


def load_classifier(
    folder_or_id: str | Path, label_map: LabelMap | str = "auto", revision: str | None = None
) -> tuple[Any, Any, list[str], dict[str, tuple[str, ...]]]:
    """Tokenizer, weights, labels and the map that fits them; arguments and errors as in `classifier_judge`."""
    tokenizer, model = _load(folder_or_id, revision)
    labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    name = Path(folder_or_id).name
    if isinstance(label_map, str):
        chosen = _auto_map(label_map, labels, name)
    else:
        chosen = {e: (found,) if isinstance(found, str) else tuple(found) for e, found in label_map.items()}
    _check_map(chosen, labels, name)
    return tokenizer, model, labels, chosen


def _load(folder_or_id: str | Path, revision: str | None) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    options = {"revision": revision} if revision else {}
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(str(folder_or_id), trust_remote_code=False, **options)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                str(folder_or_id), use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
            )
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelUnavailableError(
            f"cannot load the classifier {folder_or_id}: {first}; give the folder of a text classifier with "
            "model.safetensors, config.json and tokenizer, or its hub id (and `revision`, if its safetensors weights "
            "are on another branch)"
        ) from error
    if missing := sorted(report["missing_keys"]):  # would be filled with random numbers
        raise ModelUnavailableError(f"{folder_or_id} is no trained classifier: it lacks {missing[0]}; give one that is")
    if model.config.num_labels < 2:
        raise ModelUnavailableError(f"{folder_or_id} has one output, no classes; give a classifier of emotions")
    return tokenizer, model.eval()


def _auto_map(asked: str, labels: Sequence[str], name: str) -> dict[str, tuple[str, ...]]:
    """The declared map with most of its labels in the classifier, all of them; else the emotions' own names."""
    if asked != "auto":
        raise StimulusError(f"label_map is '{asked}'; give 'auto' or a map from emotions to labels")
    have = {label.lower() for label in labels}
    fitting = [m for m in (GO_EMOTIONS, EKMAN) if {label for found in m.values() for label in found} <= have]
    own: dict[str, tuple[str, ...]] = {e: (e,) for e in EMOTIONS if e in have}
    if fitting and len(own) <= len(fitting[0]):
        return fitting[0]
    if len(own) >= 2:
        return own
    raise StimulusError(
        f"no declared label map fits {name}, whose labels are {', '.join(labels)}; give label_map, for example "
        '{"happy": "joy", "afraid": ("fear", "nervousness")}'
    )


def _check_map(chosen: Mapping[str, tuple[str, ...]], labels: Sequence[str], name: str) -> None:
    have = {label.lower() for label in labels}
    if unknown := sorted({label for found in chosen.values() for label in found if label.lower() not in have}):
        raise StimulusError(f"{name} has no label {', '.join(unknown)}; its labels are {', '.join(labels)}")
    if empty := [e for e, found in chosen.items() if not found]:
        raise StimulusError(f"no label given for {', '.join(empty)}; leave out emotions that {name} has no label for")
    sets = {frozenset(label.lower() for label in found) for found in chosen.values()}
    if len(sets) < 2:
        raise StimulusError(f"the label map has {len(sets)} label groups; a judge needs at least 2")
    clash = [(a, b) for a in sets for b in sets if a != b and a & b]
    if clash:
        one, other = sorted(" + ".join(sorted(s)) for s in clash[0])
        raise StimulusError(
            f"the label groups '{one}' and '{other}' overlap; give emotions the same labels, or labels apart"
        )


@torch.inference_mode()
def _probabilities(
    tokenizer: Any, model: Any, texts: Sequence[str], batch_size: int, several: bool
) -> Float[np.ndarray, "n_texts n_labels"]:
    """Batches of texts of like length, since a batch is padded to its longest."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    out = np.zeros((len(texts), model.config.num_labels), dtype=np.float32)
    table = getattr(model.config, "max_position_embeddings", None) or 512
    unused = 2 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0  # positions of its table
    limit = int(min(tokenizer.model_max_length, table - unused))
    for start in range(0, len(order), batch_size):
        rows: Int[np.ndarray, " batch"] = np.array(order[start : start + batch_size])
        batch = tokenizer(
            [texts[i] or " " for i in rows], padding=True, truncation=True, max_length=limit, return_tensors="pt"
        ).to(model.device)
        logits = model(**batch).logits.float()
        out[rows] = (logits.sigmoid() if several else logits.softmax(-1)).cpu().numpy()
    return out
