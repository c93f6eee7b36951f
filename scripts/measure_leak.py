"""Measure how much Chinese steering brings out of tiny-qwen, per dose and condition, and print a table.

    python scripts/measure_leak.py lens_emotion/models/tiny/tiny-qwen

Vectors come from English stories, openings are English, the steered layer is the middle one, decoding is greedy. For
each dose and condition: the share of Han among all characters but white space, the shares of texts with a Chinese word
of the target emotion ("right": its own or of its groups) and of any other emotion ("wrong"), and how many of either a
text has. "random" has the length of the target's vector; "other" is the vector of the emotion least like the target.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import regex
import torch

from lens_emotion.analysis.decoding import decoding
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.models.access import Model
from lens_emotion.models.loading import load_model
from lens_emotion.steering.dose import Dose, resolve_layers
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.judges import word_count_judge, world_words
from lens_emotion.stimuli.prompts import Scenario, scenarios
from lens_emotion.stimuli.sets import load_stimuli
from lens_emotion.stimuli.world import World, load_world
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

NAME = "world-en-zh"
HAN = regex.compile(r"\p{Han}")


def chinese_words(world: World, emotion: str) -> tuple[set[str], set[str]]:
    """(own and group words of the emotion, emotion words it never uses), both in Chinese."""
    right = {world.translations[w] for w in (*world.own_words[emotion], *world.shared_words[emotion])}
    return right, set(world.translations.values()) - right


def leakage(world: World, texts: Sequence[str], emotions: Sequence[str]) -> dict[str, float]:
    """Share of Han among all characters but white space; shares of texts with a right and with a wrong Chinese word."""
    letters = [[c for c in text if not c.isspace()] for text in texts]
    han = sum(bool(HAN.match(c)) for text in letters for c in text)
    row = {"han": han / sum(map(len, letters)), "right": 0.0, "wrong": 0.0, "rights": 0.0, "wrongs": 0.0}
    for text, emotion in zip(texts, emotions, strict=True):
        for name, words in zip(("right", "wrong"), chinese_words(world, emotion), strict=True):
            found = sum(text.count(word) for word in words)
            row[name] += (found > 0) / len(texts)
            row[name + "s"] += found / len(texts)
    return row


def least_alike(vectors: EmotionVectors, emotion: str, layer: int) -> str:
    cosine = vectors.cosine(layer)[vectors.emotions.index(emotion)]
    return vectors.emotions[int(cosine.argmin())]


def measure(
    model: Model, vectors: EmotionVectors, tasks: Sequence[Scenario], doses: Sequence[float]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(table per dose and condition, every text)."""
    layers = resolve_layers(None, vectors.n_layers)
    world = load_world("en-zh")
    plan = [("unsteered", 0.0, Condition(t.opening)) for t in tasks]
    for dose in doses:
        for i, task in enumerate(tasks):
            chosen = {
                "emotion": vectors[task.emotion],
                "random": vectors.random(i, like=task.emotion),
                "other": vectors[least_alike(vectors, task.emotion, layers[0])],
            }
            plan += [(name, dose, Condition(task.opening, vector, Dose(dose))) for name, vector in chosen.items()]
    written = generate_steered(model, [c for _, _, c in plan], layers, max_new_tokens=40, progress=False)
    emotions = [t.emotion for t in tasks]
    texts = pd.DataFrame({"condition": name, "dose": dose} for name, dose, _ in plan)
    texts["emotion"] = emotions + [t.emotion for _ in doses for t in tasks for _ in range(3)]
    texts["text"] = [w.text for w in written]
    rows = []
    for (dose, name), group in texts.groupby(["dose", "condition"]):
        rows.append({"dose": dose, "condition": name, **leakage(world, group.text.tolist(), group.emotion.tolist())})
    return pd.DataFrame(rows), texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--doses", type=float, nargs="+", default=(1.0, 2.0, 3.0, 4.0, 6.0))
    parser.add_argument("--show", type=float, help="also print the texts steered at this dose")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, stimuli = load_model(str(args.folder)), load_stimuli(NAME)
    acts = extract_comprehension(model, stimuli)
    vectors = emotion_vectors(acts)
    table, texts = measure(model, vectors, scenarios(NAME), args.doses)
    print(table.round(3).to_string(index=False))
    print("decoding, best layer:", round(decoding(acts, n_permutations=40).best_accuracy, 3))
    judge = word_count_judge(world_words(NAME), stimuli)
    print(dose_response(model, vectors, scenarios(NAME), judge, doses=args.doses, progress=False).summary())
    for row in texts[texts.dose == args.show].itertuples():
        print(f"{row.condition:9s} {row.emotion:12s} {row.text!r}")


if __name__ == "__main__":
    main()
