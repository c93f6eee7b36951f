"""The readers of run folders: manifests, step records, checksums; and a small stored run to read."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.fuzz_grammar import fault_of_names, fault_of_numbers, first, lied, sums_in, told
from benchmarks.fuzz_subjects import Reader, small_activations, small_dose_response, small_stimuli, tiny

MODEL = "tiny-llama"
DATE = "2026-01-02T03:04:05+00:00"
Says = Callable[[bytes, Any], str]


def run_readers(folder: Path) -> list[Reader]:
    """Each over a copy of its own of one small stored run, beside which a good one lies."""
    good = stored_run(folder / "good")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, folder / name / "run"))

    return [
        _listed(copy("listed"), good),
        _manifest_of(copy("manifest")),
        _seal_of(copy("sealed")),
        *_records(copy("record")),
        _verified(copy("verified")),
        _summed(copy("summed")),
    ]


@cache
def _first_run() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory()
    _store(Path(made.name) / "run")
    return made


def stored_run(root: Path) -> Path:
    """A finished run of a tiny model on a few texts, as a study lays it down, without its analyses."""
    return Path(shutil.copytree(Path(_first_run().name) / "run", root))


def _store(root: Path) -> None:
    import pandas as pd

    from lens_emotion.analysis.lens import Lens
    from lens_emotion.models.access import describe
    from lens_emotion.run.config import READING, STEERING, WRITING, StudyConfig
    from lens_emotion.run.inputs import Identity, step_inputs
    from lens_emotion.run.store import Store, keep, manifest
    from lens_emotion.steering.dose_result import save_dose_response
    from lens_emotion.stimuli.emotions import Norm
    from lens_emotion.study.one_model import write_facts
    from lens_emotion.study.results import Evidence
    from lens_emotion.study.steps import DOSES, STORIES

    acts, texts, info = small_activations(), small_stimuli(), describe(tiny())
    config = StudyConfig(models=(MODEL,), jeong=False)
    identity, store = Identity("f" * 16, "bridge", "float32", "cpu"), Store.open(root)
    part = store.model(MODEL)

    def both(at: Path, names: tuple[str, str]) -> None:
        for name in names:
            acts.save(at / f"{name}.safetensors")

    def written(at: Path) -> None:
        texts.save(at / STORIES)
        both(at, ("conditioned", "reread"))

    saves: dict[str, Callable[[Path], Any]] = {
        READING: lambda at: both(at, ("story_mean", "last_token")),
        WRITING: written,
        STEERING: lambda at: save_dose_response(small_dose_response(), at / DOSES),
    }
    part.root.mkdir()
    for step, save in saves.items():
        keep(part.root, step, step_inputs(step, config, identity, texts, "0" * 64), save, 2.5)
    row = {"emotion": "calm", "side": "up", "rank": 1, "token": " nan", "token_id": 7, "z": 1.5, "script": "Latin"}
    table = pd.DataFrame([row, {**row, "rank": 2, "token": "None", "z": -0.25}])
    told = {"emotion": "calm", "side": "up", "control": "isotropic", "script": "Latin", "base_rate": 0.5, "share": 0.5}
    measured = (
        "null_mean",
        "null_low",
        "null_high",
        "p",
        "p_corrected",
        "mean_z",
        "z_low",
        "z_high",
        "z_p",
        "z_p_corrected",
    )
    scripts = pd.DataFrame([{**told, **dict.fromkeys(measured, 0.5)}])
    evidence: dict[str, Any] = dict.fromkeys(f.name for f in fields(Evidence))
    evidence |= {"info": info, "kind": "base", "millions": 0.4, "stimuli": "world-en", "lacking": {}}
    evidence |= {"comprehension": acts, "last_token": acts, "ratings": (Norm("calm", "calm", 7.5, 2.5),)}
    write_facts(part, Evidence(**evidence), Lens(table, scripts, 3, info.n_layers, MODEL, 10, 5, "direction"))
    part.table("lens", table)
    part.table("lens_scripts", scripts)
    store.table("claims", pd.DataFrame({"claim": ["C1"], "p": [0.25]}))
    rows = [{"name": MODEL, "fingerprint": info.fingerprint, "seconds": 3.5}]
    store.json(
        "manifest.json",
        {**manifest(config, "lens-emotion study", rows, 9.0, {MODEL: f"hub:planted/{MODEL}"}), "created": DATE},
    )
    store.close()


def json_reader(name: str, place: Path, read: Callable[[Path], Any], says: Says, **more: Any) -> Reader:
    """A JSON file, of a run or a model: any lie in it, judged as it stands."""
    good = place.read_bytes()
    plain = json.loads(good)
    lies = lambda rng: lied(rng, plain).encode("utf-8", "surrogatepass")  # noqa: E731
    right = lambda data, result: not says(data, result)  # noqa: E731
    text = lambda: (json.loads(good), lambda new: new.encode("utf-8", "replace"))  # noqa: E731
    return Reader(name, good, read, right, text, lies=lies, says=says, place=place, **more)


def or_none(data: bytes) -> Any:
    """What JSON says, None where it says nothing, or two things."""
    try:
        return told(data)
    except (ValueError, RecursionError):
        return None


# Lists.


def _listed(run: Path, good: Path) -> Reader:
    from lens_emotion.run.look import list_runs, read_manifest

    beside = Path(shutil.copytree(good, run.parent / "beside"))
    (alone,) = list_runs(beside)

    def read(path: Path) -> Any:
        return list_runs(path.parents[1]), read_manifest(path.parent)

    def says(data: bytes, result: Any) -> str:
        rows, _ = result
        if alone not in rows:
            return "the good run beside it is not listed as it is"
        others = [r for r in rows if r.path == run]
        return "" if not others else _summary(or_none(data), others[0], run)

    return json_reader("list_runs, manifest", run / "manifest.json", read, says, lenient=True)


def _summary(facts: Any, row: Any, run: Path) -> str:
    """A run in the list is what its manifest says, or it is said that none can be read."""
    n_bytes = sum(p.stat().st_size for p in (run, *run.rglob("*")) if p.is_file())
    if abs(row.n_bytes - n_bytes) > 4096:
        return "another size than its files have"
    if not row.created:
        dated = isinstance(facts, dict) and isinstance(facts.get("created"), str) and facts["created"]
        return (
            "unreadable, but done"
            if row.done and not isinstance(facts, dict)
            else "no date"
            if dated and row.done
            else ""
        )
    facts = facts if isinstance(facts, dict) else {}
    models = facts.get("config", {}).get("models")
    places = facts.get("places")
    names = list(places)[: len(models or ())] if isinstance(places, dict) else []
    wanted = names if isinstance(models, list) and len(names) == len(models) else models
    if row.created != facts.get("created") or not isinstance(models, list) or list(row.models) != wanted:
        return f"created {row.created!r:.30} with models {row.models!r:.60}, which the manifest does not say"
    done = facts.get("done", "models" in facts)
    if row.done and done is not True:
        return "another state than the manifest's"
    if not 0 <= row.steps_done <= row.steps_total or (models and not row.steps_total):
        return f"{row.steps_done} of {row.steps_total} steps"
    dated = "" if row.created[:4].isdigit() and len(row.created) < 40 else f"created {row.created!r:.30}, no date"
    return first(dated, fault_of_names(row.models, "model"), fault_of_numbers(row.seconds, "seconds", 0.0, 1e12))


def _seal_of(run: Path) -> Reader:
    """A seal: half of the lies have the hash that they should have."""
    from lens_emotion.run.config import StudyConfig
    from lens_emotion.run.sealed import Seal, read_seal, sha256_of_json
    from lens_emotion.study.seal import state_of

    parts: dict[str, Any] = {"design": {"seed": 0}, "models": {MODEL: {"settings": {"seed": 0}, "files": "f" * 64}}}
    parts |= {"thresholds": {"m": {"LEVEL": 0.025}}, "smallest": {"C1": {"value": 0.1, "unit": "u", "why": "w"}}}
    parts |= {"claims": {"statements": {"C1": "s"}, "code": {"a.py": "0" * 64}}, "power": [{"claim": "C1"}]}
    made = Seal(date=DATE, version="0.1.0", **parts)
    place = run / "sealed.json"
    place.write_text(json.dumps({**asdict(made), "sha256": made.digest}))

    def read(path: Path) -> Any:
        state_of(path.parent, StudyConfig(models=(MODEL,)), names=(MODEL,)).line()
        return read_seal(path.parent)

    def says(data: bytes, result: Any) -> str:
        facts = or_none(data)
        if result is None or not isinstance(facts, dict):
            return "" if result is None and not data else "a seal of what is no table"
        own = {k: v for k, v in facts.items() if k != "sha256"}
        return "" if asdict(result) == facts and sha256_of_json(own) == facts["sha256"] else "another seal"

    found = json_reader("read_seal", place, read, says)

    def lies(rng: random.Random) -> bytes:
        data = lied(rng, json.loads(found.good))
        facts = or_none(data.encode("utf-8", "surrogatepass"))
        if isinstance(facts, dict) and rng.random() < 0.5:
            with suppress(ValueError):
                own = {k: v for k, v in facts.items() if k != "sha256"}
                return json.dumps({**own, "sha256": sha256_of_json(own)}).encode()
        return data.encode("utf-8", "surrogatepass")

    return replace(found, lies=lies)


def _manifest_of(run: Path) -> Reader:
    from lens_emotion.study.stored import manifest_of

    def says(data: bytes, result: Any) -> str:
        facts, read = told(data), json.loads(json.dumps(asdict(result)))
        other = [k for k, v in facts.items() if read.get(k) != v]
        return f"{other[0]!r:.40} is not the file's" if other else ""

    return json_reader("manifest_of", run / "manifest.json", lambda path: manifest_of(path.parent), says, weight=2)


# Steps.


def _records(run: Path) -> list[Reader]:
    from lens_emotion.run.store import read_record
    from lens_emotion.study.plan import measured_in

    place = run / MODEL / "comprehension" / "step.json"

    def record_says(data: bytes, record: Any) -> str:
        if record is None:
            return ""
        facts = told(data)
        mine = {"schema": 1, **asdict(record)}
        if mine != facts or isinstance(facts["seconds"], bool) or facts["schema"] is True:
            return "a record of other values than the file's"
        named = fault_of_names([record.name, record.key])
        plain = (
            "" if isinstance(record.inputs, dict) and isinstance(record.created, str) else "inputs or date of no kind"
        )
        return first(named, plain, fault_of_numbers(record.seconds, "seconds", 0.0, 1e12))

    def speeds_say(data: bytes, speeds: Any) -> str:
        if len(speeds) < 2 or len(speeds) > 3:
            return f"{len(speeds)} speeds, of 3 steps, one of which was changed"
        facts = or_none(data)
        for m in speeds:
            if found := fault_of_numbers(m.flops_per_second, "a speed", 1e-6, 1e30):
                return found
            if not all(isinstance(x, str) and x for x in (m.step, m.device, m.dtype)):
                return "a step, device or precision that is none"
        if len(speeds) == 3 and (not isinstance(facts, dict) or type(facts.get("seconds")) not in (int, float)):
            return "a speed of a step whose record cannot be read"
        return ""

    read = lambda path: read_record(path.parent)  # noqa: E731
    speeds = lambda path: measured_in([run])  # noqa: E731
    return [
        json_reader("read_record", place, read, record_says, lenient=True),
        json_reader("measured_in", place, speeds, speeds_say, lenient=True, weight=4),
    ]


# Checksums.


ODD_NAMES = (
    "../outside", "/etc/passwd", "", " ", "no such", "manifest.json", "a\0b", "x" * 100_000, "\x1b[31m", "a/../b", ".",
    MODEL, "tables", "\udcff", "SHA256SUMS", "x" * 300, "e\u0301", "a\rb", "a\u2028b", "/dev/zero", "C:\\x",
)  # fmt: skip


def _sums_lie(good: bytes, rng: random.Random) -> bytes:
    """Lines of the right form about files of any kind."""
    lines = good.decode().splitlines()
    digest = rng.choice(("0" * 64, "F" * 64, lines[0][:64], hashlib.sha256(b"").hexdigest(), "0" * 63, "e" * 65))
    name = rng.choice((*ODD_NAMES, lines[-1][66:] + "/", "./" + lines[-1][66:]))
    kind = rng.randrange(5)
    line = f"{digest}{rng.choice(('  ', ' *', ' ', chr(9)))}{name}"
    if kind == 0:
        lines.insert(rng.randrange(len(lines) + 1), line)
    elif kind == 1:
        lines[rng.randrange(len(lines))] = line
    elif kind == 2:
        del lines[rng.randrange(len(lines))]
    elif kind == 3:
        i = rng.randrange(len(lines))
        lines.insert(i, rng.choice((f"{'0' * 64}{lines[i][64:]}", lines[i], lines[i].upper())))
    else:
        i = rng.randrange(len(lines))
        lines[i] = f"{digest}{lines[i][64:]}" if rng.random() < 0.5 else f"{lines[i][:64]}  {name}"
    end = rng.choice(("\n", "\n", "\n", "\r\n", "", "\n\n"))
    return ("\n".join(lines) + end).encode("utf-8", "surrogateescape")


def _verified(run: Path) -> Reader:
    from lens_emotion.run.look import verify_run

    place = run / "SHA256SUMS"
    good = place.read_bytes()

    def read(path: Path) -> Any:
        return verify_run(path.parent)

    def says(data: bytes, found: Any) -> str:
        """Whatever the file notes of a file that is not so is told, and no good file is called damaged."""
        sums, told_of = sums_in(data), {str(d.path) for d in found.damages}
        for name, digests in sums.noted.items():
            path = run / name
            try:
                sound = hashlib.sha256(path.read_bytes()).hexdigest() in digests
            except OSError:
                sound = False
            if not sound and not any(
                t.startswith(str(run)) and (str(path) == t or name in t or t == str(place)) for t in told_of
            ):
                return f"{name!r:.40} is not what was noted, and nothing is said"
            if sound and str(path) in told_of:
                return f"{name!r:.40} is what was noted, and called damaged"
        if sums.others and not told_of:
            return "a line that is no checksum, and nothing is said"
        return first(fault_of_numbers(found.n_files, "files", 0))

    right = lambda data, result: not says(data, result)  # noqa: E731
    return Reader("verify_run", good, read, right, lies=partial(_sums_lie, good), says=says, place=place, lenient=True)


def _summed(run: Path) -> Reader:
    from lens_emotion.files.checksums import read_sums

    place = run / MODEL / "comprehension" / "SHA256SUMS"
    good = place.read_bytes()

    def says(data: bytes, result: Any) -> str:
        noted, wrong = result
        sums = sums_in(data)
        if extra := [n for n in noted if n not in sums.noted or noted[n] != sums.noted[n]]:
            return f"{extra[0]!r:.40} with checksums that the file does not hold"
        if (lost := [n for n in sums.noted if n not in noted]) and not wrong:
            return f"{lost[0]!r:.40} is left out, and nothing is said"
        return "" if wrong or not sums.others else "lines that are no checksums, and nothing is said"

    right = lambda data, result: not says(data, result)  # noqa: E731
    read = lambda path: read_sums(path.parent)  # noqa: E731
    return Reader("read_sums", good, read, right, lies=partial(_sums_lie, good), says=says, place=place, lenient=True)
