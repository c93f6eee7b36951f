"""The readers of files that users write, in TOML or JSON: study, stimuli, prompts, scenarios, judge."""

from __future__ import annotations

import json
import math
import random
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.fuzz_grammar import DEEP, fault_of_names, fault_of_numbers, fault_of_texts, first, lied, told
from benchmarks.fuzz_subjects import Reader
from lens_emotion.files.names import name_of

Right = Callable[[dict[str, Any], Any], bool]
Meant = Callable[[Any], str]


def own_readers(folder: Path) -> list[Reader]:
    """Each with its file of the example study, which is written into the folder: a study names the others."""
    from lens_emotion.run.config import read_study_file, write_example
    from lens_emotion.steering.judge_files import read_judge_file
    from lens_emotion.stimuli.prompts import read_prompts, read_scenarios
    from lens_emotion.stimuli.sets import read_stimulus_file

    write_example(folder)
    forms: list[tuple[str, Callable[[Path], Any], Right, Meant]] = [
        ("study", read_study_file, _study, _meant_study),
        ("stimuli", read_stimulus_file, _stimuli, _meant_stimuli),
        ("prompts", read_prompts, _prompts, _meant_prompts),
        ("scenarios", read_scenarios, _scenarios, _meant_scenarios),
        ("judge", read_judge_file, lambda data, found: found.data.model_dump(exclude_unset=True) == data, _meant_judge),
    ]
    in_json = [f for f in forms if f[0] != "stimuli"]
    return [_reader(folder, "TOML", *f) for f in forms] + [_reader(folder, "JSON", *f) for f in in_json]


def _reader(folder: Path, form: str, name: str, read: Callable[[Path], Any], right: Right, meant: Meant) -> Reader:
    good = (folder / f"{name}.toml").read_bytes()
    plain = tomllib.loads(good.decode())
    loads: Callable[[str], Any] = tomllib.loads if form == "TOML" else told
    good = good if form == "TOML" else json.dumps(plain).encode()

    def lies(rng: random.Random) -> bytes:
        text = lied(rng, plain, at=lambda path: path[0] != "name" or rng.random() < 0.3)
        return (text if form == "JSON" else _toml(text)).encode("utf-8", "surrogatepass")

    def given(data: bytes) -> dict[str, Any]:
        """What the file says, but for the keys that are the user's own."""
        return _without_own(loads(data.decode().removeprefix("\ufeff").replace("\r\n", "\n")))

    def says(data: bytes, result: Any) -> str:
        return meant(result) if right(given(data), result) else "other values than the file's"

    place = folder / f"changed-{name}.{form.lower()}"
    text = None if form == "TOML" else lambda: (json.loads(good), lambda new: new.encode("utf-8", "replace"))
    says_so = lambda data, result: right(given(data), result)  # noqa: E731
    weight = 6 if form == "TOML" else 3
    return Reader(
        f"{read.__name__}, {form}", good, read, says_so, text, lies=lies, says=says, place=place, weight=weight
    )


def _without_own(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_own(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_own(v) for k, v in value.items() if not (k.startswith("_") or k == "$schema")}


def _toml(text: str) -> str:
    """The same values in TOML, as far as it has them."""
    try:
        return "".join(f"{_word(k)} = {_inline(v)}\n" for k, v in json.loads(text).items() if v is not None)
    except (RecursionError, ValueError):
        return f"deep = {DEEP[2:]}\n"


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "nan" if math.isnan(value) else str(value).replace("1e-300", "1.0e-300")
    if isinstance(value, list):
        return "[" + ", ".join(_inline(v) for v in value if v is not None) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_word(k)} = {_inline(v)}" for k, v in value.items() if v is not None) + "}"
    return _word(value) if isinstance(value, str) else hex(value) if abs(value) > 10**4000 else str(value)


def _word(said: str) -> str:
    """A basic string; control characters as TOML spells them, which it allows for all but half characters."""
    return json.dumps(said, ensure_ascii=False).replace("\x7f", "\\u007F")


def _study(data: dict[str, Any], found: Any) -> bool:
    config = found[0]
    named = {"permutations": "n_permutations"}
    plain = {k: v for k, v in data.items() if isinstance(v, int | float | bool) and k != "seed"}
    same = all(getattr(config, named.get(k, k)) == v for k, v in plain.items())
    return same and len(config.models) >= len(data["models"]) and config.seed == data.get("seed", 0)


def _meant_study(found: Any) -> str:
    config = found[0]
    numbers = {"n_permutations": 20, "seed": 0, "story_tokens": 16, "jeong_tokens": 16, "steered_tokens": 8}
    return first(
        fault_of_names(config.models, "model"),
        fault_of_numbers(config.doses, "a dose", 1e-12, 1e6),
        *(fault_of_numbers(getattr(config, k), k, least, 2**32) for k, least in numbers.items()),
    )


def _stimuli(data: dict[str, Any], found: Any) -> bool:
    told = [(row["text"].strip(), name_of(row["emotion"]), name_of(row["topic"])) for row in data["items"]]
    norms = {name_of(e): (float(n["valence"]), float(n["arousal"])) for e, n in data.get("norms", {}).items()}
    read = {n.emotion: (n.valence, n.arousal) for n in found.stimuli.norms}
    return told == [(s.text, s.emotion, s.topic) for s in found.stimuli.items] and read.items() <= norms.items()


def _meant_stimuli(found: Any) -> str:
    items, norms = found.stimuli.items, found.stimuli.norms
    return first(
        fault_of_names([s.text_id for s in items], "id"),
        *(fault_of_names([word], what) for s in items for word, what in ((s.emotion, "emotion"), (s.topic, "topic"))),
        *(fault_of_texts(s.text) or ("" if s.text.strip() else "an empty text") for s in items),
        fault_of_numbers([(n.valence, n.arousal) for n in norms], "a rating"),
        fault_of_names([n.emotion for n in norms], "rated emotion") if norms else "",
    )


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


def _meant_prompts(found: Any) -> str:
    prompts = found.crossed
    return first(
        fault_of_names([p.prompt_id for p in prompts], "prompt"),
        *(fault_of_names([p.emotion], "emotion") for p in prompts),
        *(fault_of_texts(p.text) or ("" if p.text.strip() else "an empty prompt") for p in prompts),
    )


def _scenarios(data: dict[str, Any], found: Any) -> bool:
    return [(s["opening"], name_of(s["emotion"])) for s in data["scenarios"]] == [(s.opening, s.emotion) for s in found]


def _meant_scenarios(found: Any) -> str:
    named = [fault_of_names([s.emotion], "emotion") for s in found]
    return first(*named, *(fault_of_texts(s.opening) or ("" if s.opening.strip() else "no opening") for s in found))


def _meant_judge(found: Any) -> str:
    return fault_of_texts(found.data.model_dump(exclude_unset=True))
