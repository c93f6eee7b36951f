"""The readers of files that users write, in TOML: study, stimuli, prompts, scenarios, judge."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.fuzz_subjects import Reader
from lens_emotion.files.user import name_of


def own_readers(folder: Path) -> list[Reader]:
    """Each with its file of the example study, which is written into the folder: a study names the others."""
    from lens_emotion.run.config import read_study_file, write_example
    from lens_emotion.steering.judge_files import read_judge_file
    from lens_emotion.stimuli.prompts import read_prompts, read_scenarios
    from lens_emotion.stimuli.sets import read_stimulus_file

    write_example(folder)

    def toml(name: str, read: Callable[[Path], Any], right: Callable[[dict[str, Any], Any], bool]) -> Reader:
        good = (folder / f"{name}.toml").read_bytes()
        says = lambda data, result: right(tomllib.loads(data.decode()), result)  # noqa: E731
        return Reader(f"{read.__name__}, TOML", good, read, says, suffix=".toml")

    return [
        toml("study", read_study_file, _study),
        toml("stimuli", read_stimulus_file, _stimuli),
        toml("prompts", read_prompts, _prompts),
        toml("scenarios", read_scenarios, lambda d, found: [s["opening"] for s in d["scenarios"]] == _openings(found)),
        toml("judge", read_judge_file, lambda data, found: found.data.model_dump(exclude_unset=True) == data),
    ]


def _study(data: dict[str, Any], found: Any) -> bool:
    config = found[0]
    named = {"permutations": "n_permutations"}
    plain = {k: v for k, v in data.items() if isinstance(v, int | float | bool) and k != "seed"}
    same = all(getattr(config, named.get(k, k)) == v for k, v in plain.items())
    return same and len(config.models) >= len(data["models"]) and config.seed == data.get("seed", 0)


def _stimuli(data: dict[str, Any], found: Any) -> bool:
    told = [(row["text"].strip(), name_of(row["emotion"]), row["topic"]) for row in data["items"]]
    norms = {name_of(e): (float(n["valence"]), float(n["arousal"])) for e, n in data.get("norms", {}).items()}
    read = {n.emotion: (n.valence, n.arousal) for n in found.stimuli.norms}
    return told == [(s.text, s.emotion, s.topic) for s in found.stimuli.items] and read.items() <= norms.items()


def _prompts(data: dict[str, Any], found: Any) -> bool:
    """Every prompt is a template with its topic and emotion filled in, and every topic has one."""
    emotions, topics = data.get("emotions", {}), data.get("topics", {})
    filled = {
        template.replace("{topic}", topic).replace("{emotion}", emotion)
        for template, topic, emotion in product(data.get("templates", []), topics.values(), emotions.values())
    }
    filled |= {t.replace("{topic}", words) for t in data.get("neutral_templates", []) for words in topics.values()}
    filled |= {row["text"] for row in data.get("prompts", [])}
    asked = set(topics) if data.get("templates") or data.get("neutral_templates") else set()
    return {p.text for p in found.crossed} <= filled and asked <= {p.topic for p in found.crossed}


def _openings(found: Any) -> list[str]:
    return [s.opening for s in found]
