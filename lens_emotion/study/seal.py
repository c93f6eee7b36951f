"""A sealed study: what would count as what, written down before any model is read.

RUN/sealed.json holds the whole design, the texts by their checksums, the models by their files, every threshold, the
smallest effects of interest, the claims with the code of their rules, and the power of each; with the date, the version
and the SHA-256 of it all. It is written once. Whoever goes on with the run under another design gets numbers all the
same, and a seal that says what changed. A seal shows that nothing changed since; that it was made before the data, only
a copy of its hash somewhere else can show (a commit, a preregistration, a letter).

Nothing here knows a setting, a threshold or a claim by name: the settings are the fields of `StudyConfig`, the
thresholds are the constants of the modules that decide, the rules are the code of `study/claims`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from lens_emotion.errors import ArtifactError
from lens_emotion.models.loading import resolve
from lens_emotion.run.config import CONTROLS, PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.inputs import prompts_for, scenarios_for, texts_for
from lens_emotion.run.look import read_manifest, step_folders
from lens_emotion.run.places import Place, identity
from lens_emotion.run.sealed import FILE as SEAL
from lens_emotion.run.sealed import Seal, canonical, read_seal
from lens_emotion.run.store import PARTIAL, Store, hash_of
from lens_emotion.steering.judge_files import judge_content
from lens_emotion.stimuli.library import more_neutral, twins_of
from lens_emotion.study.claims.smallest import SMALLEST, smallest_of
from lens_emotion.study.power import power_of
from lens_emotion.study.verdict import BROKEN, SEALED, STATEMENTS, SealState
from lens_emotion.version import __version__

DECIDE = (  # modules whose constants decide a verdict, beside all of study.claims
    "study.verdict", "stats.decide", "stats.tests", "steering.paired", "steering.regimes", "steering.leakage",
    "analysis.matched", "analysis.removal", "analysis.ushape", "analysis.words", "presets.protocol",
)  # fmt: skip
RULES = {"lens_emotion.study.claims": "", "lens_emotion.presets": "presets/"}  # ours, and the published ones
# settings that name files: what lies in these is compared, wherever they lie
_NAMES = frozenset({"models", "overrides", "stimuli", "prompts", "scenarios", "judge"})
COMPARED = ("models", "thresholds", "smallest", "claims")


def seal_of(config: StudyConfig, places: Sequence[Place]) -> Seal:
    """The seal of a study that has not begun; files are read, no weights are loaded.

    Args:
        places: of its models (see `run.places`).

    Raises:
        LensEmotionError: models, texts or settings that are not there.
    """
    by = _rules(config)
    made = Seal(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        design=_plain(asdict(config)),
        models={p.name: _settings(config, p.asked) | _content(p.asked, config.for_model(p.asked)) for p in places},
        thresholds=by["thresholds"],
        smallest=by["smallest"],
        claims=by["claims"],
        power=_plain(power_of(config).table.to_dict("records")),
    )
    return replace(made, sha256=made.digest)


def _rules(config: StudyConfig) -> dict[str, dict[str, Any]]:
    """By what a verdict is reached, as this package has it now."""
    known = smallest_of(config.smallest)
    return {
        "thresholds": _plain(thresholds()),
        "smallest": {c: {"value": v, "unit": SMALLEST[c].unit, "why": SMALLEST[c].why} for c, v in known.items()},
        "claims": {"statements": dict(STATEMENTS), "code": rules()},
    }


def _settings(config: StudyConfig, asked: str) -> dict[str, Any]:
    """Of one model, but for the names of files."""
    own = _plain(asdict(config.for_model(asked)))
    return {"settings": {name: value for name, value in own.items() if name not in _NAMES}}


def _content(asked: str, config: StudyConfig) -> dict[str, Any]:
    """What one model is and reads, by checksums; a hub model by its id, since its files may not be here yet."""
    texts = texts_for(asked, config.stimuli, config.emotions)
    found = {READING: texts.sha256, CONTROLS: hash_of([more_neutral(texts).sha256, twins_of(texts).sha256])}
    for step in (s for s in config.steps if s in (WRITING, PRESET)):
        found[step] = hash_of([p.text for p in prompts_for(step, config, texts)])
    if STEERING in config.steps:
        judge = judge_content(config.judge) if config.judge else None
        found[STEERING] = hash_of([[(s.emotion, s.opening) for s in scenarios_for(config, texts)], judge])
    return {"files": identity(resolve(asked)), "texts": found}


def thresholds() -> dict[str, dict[str, Any]]:
    """Module -> the numbers it decides by: its constants in capitals, those it takes from elsewhere included."""
    names = [*DECIDE, *(f"study.claims.{p.removesuffix('.py')}" for p in rules() if "__" not in p and "/" not in p)]
    found = {}
    for name in dict.fromkeys(names):
        constants = vars(import_module(f"lens_emotion.{name}")).items()
        found[name] = {k: v for k, v in sorted(constants) if k.isupper() and not k.startswith("_") and _is_number(v)}
    return {name: numbers for name, numbers in found.items() if numbers}


def _is_number(value: Any) -> bool:
    several = isinstance(value, tuple) and len(value) > 0
    return all(map(_is_number, value)) if several else isinstance(value, int | float) and not isinstance(value, bool)


def rules() -> dict[str, str]:
    """File of `study/claims` or `presets` -> SHA-256 of its code: every rule stands there, also later ones."""
    files = [(at + f.name, f) for room, at in RULES.items() for f in resources.files(room).iterdir()]
    code = {
        name: f.read_bytes().replace(b"\r\n", b"\n")
        for name, f in sorted(files, key=lambda pair: pair[0])
        if name.endswith(".py")
    }
    return {name: hashlib.sha256(text).hexdigest() for name, text in code.items()}


def _plain(value: Any) -> Any:
    """As JSON gives it back; what is not a number is null."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)


def sealed_before(config: StudyConfig, places: Sequence[Place], store: Store, seal: bool) -> SealState:
    """Seal a run that is about to begin, or say what becomes of the seal that it has; an old one is never written over.

    Args:
        seal: whether a run without one is to be sealed.

    Raises:
        ArtifactError: a seal is asked for a run that holds readings of a model already.
    """
    there = foreseen(config, places, store.root, seal)
    if there is not None:
        return there
    made = seal_of(config, places)
    store.json(SEAL, asdict(made))
    return _state(made)


def foreseen(config: StudyConfig, places: Sequence[Place], run: Path, seal: bool) -> SealState | None:
    """What becomes of the seal of a run that begins or goes on: None where one would be written now.

    Raises:
        ArtifactError: as `sealed_before`.
    """
    if os.path.lexists(run / SEAL) or _noted(run):
        return state_of(run, config, places)
    if not seal:
        return SealState()
    if held := _readings(run):
        raise ArtifactError(
            f"{run} holds {held} of models that were read already: a seal that is made after the data is none; "
            "give a fresh run folder (--out), or leave out --seal"
        )
    return None


def state_of(run: Path, config: StudyConfig, places: Sequence[Place] = (), names: Sequence[str] = ()) -> SealState:
    """What becomes of a run's seal under a design, as this package is now.

    Args:
        places: of its models, whose files and texts are compared too.
        names: where its models may be gone, their names, in the order of the settings; only settings are compared then.
    """
    noted = _noted(run)
    try:
        found = read_seal(run)
    except ArtifactError as error:
        return SealState(BROKEN, sha256=noted, broken=(str(error),), codes=frozenset(STATEMENTS))
    if found is None:
        said = f"{SEAL} is gone, and the manifest says that the run was sealed with {noted[:12]}"
        return SealState(BROKEN, "", noted, (said,), frozenset(STATEMENTS)) if noted else SealState()
    if noted and noted != found.sha256:
        said = f"{SEAL} is another one ({found.sha256[:12]}) than the run was sealed with ({noted[:12]})"
        return replace(_state(found), status=BROKEN, broken=(said,))
    now = _rules(config) | {"models": {}}
    for name, asked in zip([p.name for p in places] or names, config.models, strict=False):
        now["models"][name] = _settings(config, asked) | (_content(asked, config.for_model(asked)) if places else {})
    known = found if places else replace(found, models=_only_settings(found.models))
    broken = changes({part: getattr(known, part) for part in COMPARED}, now)
    return replace(_state(found), status=BROKEN, broken=tuple(broken)) if broken else _state(found)


def _only_settings(models: Mapping[str, Any]) -> dict[str, Any]:
    return {n: {"settings": m.get("settings")} if isinstance(m, Mapping) else m for n, m in models.items()}


def _state(seal: Seal) -> SealState:
    codes = seal.claims.get("statements", {})
    return SealState(SEALED, seal.date, seal.sha256, codes=frozenset(codes if isinstance(codes, dict) else ()))


def changes(sealed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, a line each, a change that all models share once; not the date, nor what power was expected."""
    found: dict[str, list[str]] = {}
    for at, was, is_ in _differences(sealed, now):
        model, at = (at[1], at[2:]) if at[0] == "models" and len(at) > 2 else ("", at)
        found.setdefault(f"{'.'.join(at)}: sealed {_short(was)}, now {_short(is_)}", []).append(model)
    n = len(now["models"])
    return [f"{', '.join(of)}: {line}" if any(of) and len(of) < n else line for line, of in found.items()]


_ABSENT = object()


def _differences(a: Any, b: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from _differences(a.get(key, _ABSENT), b.get(key, _ABSENT), (*at, str(key)))
    elif a is _ABSENT or b is _ABSENT or canonical(a) != canonical(b):
        yield at, a, b


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:8]
    said = "present" if isinstance(value, Mapping) else " ".join(canonical(value).split())
    return said if len(said) <= 60 else f"{said[:57]}..."


def _noted(run: Path) -> str:
    """The hash that the manifest knows of, "" where it knows of none."""
    try:
        return read_manifest(run).seal
    except ArtifactError:
        return ""


def _readings(root: Path) -> str:
    """What a run folder holds of models, in words; "" for nothing."""
    steps = [p for p in root.glob("*/*/step.json")] + [p for p in root.glob("*/.*/*/step.json")]
    begun = list(root.glob(f"*/{PARTIAL}/*.journal"))
    n = len({p.parent for p in steps} | set(step_folders(root)))
    parts = [f"{n} stored step{'s' * (n != 1)}"] * bool(n) + [f"{len(begun)} begun"] * bool(begun)
    return " and ".join(parts) or ("verdicts" if os.path.lexists(root / "claims.json") else "")
