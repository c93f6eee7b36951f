"""Run folders that lie: one small good run, and damaged copies of it, by a grammar and a seed.

    good = good_run(folder / "good")                           # a whole run, without a model: random numbers as states
    for name, make in FOREIGN.items(): make(folder / name)     # folders that merely look like runs
    for said, run in hostile_runs(good, folder, n=60, seed=0): # copies; `said` names what was done to each
        for name, look in LOOKS.items():
            look(run)                                          # returns, or raises a LensEmotionError; else a failure

A change either leaves the checksums as they were (damage) or makes them anew (a lie: valid checksums, other content).
FIFOs and devices are among them: call `look` under a time limit (`fuzz_readers.limit`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.files.checksums import FILE as SUMS
from lens_emotion.files.checksums import sha256_of
from lens_emotion.files.journal import append, record_bytes
from lens_emotion.run.config import READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.inputs import Identity, step_inputs
from lens_emotion.run.look import compare_runs, list_runs, spare_in, verify_run
from lens_emotion.run.store import Store, keep, key_of, manifest
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.sets import Stimulus, StimulusSet, write_written
from lens_emotion.study.plan import measured_in, plan_study
from lens_emotion.study.stored import read_run
from lens_emotion.vectors.recipes import emotion_vectors

MODEL = "tiny-llama"
CONFIG = StudyConfig(models=(MODEL,), device="cpu", jeong=False, steering=False, n_permutations=20, story_tokens=24)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, -1e-300, 10**18, float("nan"), float("inf"), "", "x", "/", "..", "\x1b[31m",
    "[bold]", "\ud800", [], [[]], [None], {}, {"x": {}}, "9" * 4000,
)  # fmt: skip
NAMES = (b"\xff\xfe", b"new\nline", b"[red]x[/]", b"\xe2\x80\xae", b"-rf", b"x" * 250)


def good_run(folder: Path) -> Path:
    """Write a small whole run: one model, texts read, stories without states, batches and steps left from before."""
    store = Store.open(folder)
    own, rng = store.model(MODEL), torch.Generator().manual_seed(0)
    labels = [(e, t) for e in ("calm", "angry", "happy", "neutral") for t in ("a", "b", "c", "d")]
    records = tuple(TextRecord(f"{e}-{t}", e, t, f"{e} {t}", n_total=9, n_pooled=8, n_special=1) for e, t in labels)
    read = ("comprehension", "story_mean", "world-en", "0")
    header = Header(MODEL, "v2-f", "llama", "bridge", "3.9.0", "float32", *read)
    values = torch.randn(len(labels), 3, 8, generator=rng)
    acts = PooledActivations(values, records, torch.ones(3), header)
    texts, identity = load_stimuli("world-en"), Identity("v2-f", "bridge", "float32", "cpu")
    stories = StimulusSet("stories", (Stimulus("s1", "", "calm", "a"), Stimulus("s2", "a word", "angry", "b")))

    def save(found: Path) -> None:
        for name in ("story_mean", "last_token"):
            acts.save(found / f"{name}.safetensors")

    for config in (CONFIG.with_(seed=1), CONFIG):  # the first is kept beside the second
        written = step_inputs(WRITING, config, identity, texts)
        keep(own.root, WRITING, written, lambda at: write_written(at / "stories.json", stories, "too few"), 1.5)
    keep(own.root, READING, step_inputs(READING, CONFIG, identity, texts), save, 0.5)
    old = own.root / ".partial" / f"{WRITING}-{key_of({})}.journal"
    append(old, [record_bytes("a", {"seconds": 1.0, "new_ids": [[1, 2]]}, {"rows": torch.ones(2)})])
    (own.root / ".set_aside" / f"{STEERING}-unknown").mkdir(parents=True)
    (own.root / ".set_aside" / f"{STEERING}-unknown" / "dose_response.json").write_text("{")
    own.save("vectors.safetensors", emotion_vectors(acts).save)
    _tables(own)
    row = {"name": MODEL, "fingerprint": "v2-f", "seconds": 1.0}
    store.write("report.html", "<html></html>")
    store.json("claims.json", {"claims": []})
    store.json("manifest.json", manifest(CONFIG, "lens-emotion study", [row], 2.0, {row["name"]: "hub:planted/model"}))
    store.close()
    return folder


def _tables(own: Store) -> None:
    import pandas as pd

    own.json("model.json", _FACTS)
    rows = [{"emotion": e, "side": s, "rank": 1, "token": " nan", "token_id": 1, "z": 2.0, "script": "Latin"}
            for e in ("calm", "angry", "happy") for s in ("up", "down")]  # fmt: skip
    own.table("lens", pd.DataFrame(rows))
    numbers = dict.fromkeys(("base_rate", "share", "null_mean", "null_low", "null_high", "p", "p_corrected"), 0.5)
    numbers |= dict.fromkeys(("mean_z", "z_low", "z_high", "z_p", "z_p_corrected"), 0.5)
    shared = [{"emotion": r["emotion"], "side": r["side"], "control": "matched", "script": "Latin"} for r in rows]
    own.table("lens_scripts", pd.DataFrame([row | numbers for row in shared]))


_FACTS = {
    "kind": "instruct", "millions": 0.4, "stimuli": "world-en", "ratings": [],
    "info": {
        "name": MODEL, "family": "llama", "backend": "bridge", "n_layers": 3, "d_model": 8, "n_ctx": 256,
        "d_vocab": 1600, "dtype": "float32", "device": "cpu", "fingerprint": "v2-f", "processed": False,
        "transformer_lens": "3.9.0", "former": "", "first_token": "", "template": "{}",
    },
    "lens": {"layer": 1, "n_layers": 3, "model": MODEL, "k": 50, "n_random": 200, "form": "direction"},
}  # fmt: skip


# Whatever looks at a run folder.


LOOKS: dict[str, Callable[[Path], object]] = {
    "list": list_runs,
    "list beside": lambda run: list_runs(run.parent),
    "verify": verify_run,
    "compare": lambda run: compare_runs(run, run),
    "spare": spare_in,
    "plan": lambda run: plan_study(CONFIG, run),
    "plan beside": lambda run: plan_study(CONFIG, run.parent / "new"),
    "speeds": lambda run: measured_in([run]),
    "read": read_run,
}


# Folders that are no runs.


def _manifest(data: bytes | str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes(data if isinstance(data, bytes) else data.encode())

    return make


def _with(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        become(folder / "manifest.json", kind)

    return make


FOREIGN: dict[str, Callable[[Path], None]] = {
    "browser extension": _manifest('{"manifest_version": 3, "name": "x", "version": "1.0", "permissions": ["tabs"]}'),
    "web app": _manifest('{"name": "x", "icons": [{"src": "/i.png"}], "config": {"models": 3}}'),
    "package": _manifest('{"config": {}, "layers": [], "schemaVersion": 2}'),
    "null": _manifest("null"),
    "list": _manifest("[1, 2]"),
    "utf-16": _manifest('{"config": {}}'.encode("utf-16")),
    "twice": _manifest('{"config": {}, "config": {}}'),
    **{kind: _with(kind) for kind in ("folder", "fifo", "empty", "binary", "endless", "device", "large", "deep")},
}


def become(path: Path, kind: str) -> None:
    """Put something else where a file or folder is, or nothing."""
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    made: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "folder": lambda: (path.mkdir(), (path / "inner").write_text("x")),
        "fifo": lambda: os.mkfifo(path),
        "empty": path.touch,
        "binary": lambda: path.write_bytes(bytes(range(256)) * 9),
        "endless": lambda: path.symlink_to(path.name),
        "dangling": lambda: path.symlink_to("nowhere"),
        "device": lambda: path.symlink_to("/dev/zero"),
        "above": lambda: path.symlink_to(".."),
        "outside": lambda: path.symlink_to("/etc/passwd"),
        "large": lambda: (path.touch(), os.truncate(path, 300 * 2**20)),  # without taking room
        "deep": lambda: path.write_bytes(b"[" * 100_000),
        "unreadable": lambda: (path.write_text("{}"), path.chmod(0)),
    }
    made[kind]()


KINDS = ("missing", "folder", "fifo", "empty", "binary", "endless", "dangling", "device", "above", "outside", "large",
         "deep", "unreadable")  # fmt: skip


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# Changes of a good run; each says what it did.


def hostile_runs(good: Path, folder: Path, n: int, seed: int) -> Iterator[tuple[str, Path]]:
    """Copies of a good run with one to three changes each; a copy is gone when the next is asked for."""
    rng = random.Random(seed)
    for i in range(n):
        run = folder / f"hostile-{i}"
        shutil.copytree(good, run)
        said = [rng.choice(CHANGES)(rng, run) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        yield "; ".join(said), run
        remove(run)


def _another_kind(rng: random.Random, run: Path) -> str:
    path, kind = _one(rng, run, _places(run)), rng.choice(KINDS)
    become(path, kind)
    return f"{path.relative_to(run)} is now {kind}"


def _other_json(rng: random.Random, run: Path) -> str:
    path = _one(rng, run, [p for p in _files(run) if p.suffix == ".json"])
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return f"{path.name} was no JSON any more"
    at = rng.choice(list(_inside(data)))
    value, parent = rng.choice(VALUES), data
    for key in at[:-1]:
        parent = parent[key]
    done = rng.choice(("set", "set", "set", "gone", "renamed"))
    if not at:
        data = value
    elif done == "gone":
        del parent[at[-1]]
    elif done == "renamed" and isinstance(parent, dict):
        parent[f"{at[-1]}_"] = parent.pop(at[-1])
    else:
        parent[at[-1]] = value
    path.write_text(json.dumps(data))
    return f"{path.relative_to(run)}{list(at)} {done} {str(value)[:20]!r}{_sealed(rng, path)}"


def _other_cell(rng: random.Random, run: Path) -> str:
    path = rng.choice([p for p in _files(run) if p.suffix == ".csv"] or [run / "x.csv"])
    if not path.exists():
        return "no table left"
    lines = path.read_text().splitlines()
    if not lines:
        return f"{path.name} was empty"
    row = rng.randrange(len(lines))
    cells = lines[row].split(",")
    cells[rng.randrange(len(cells))] = rng.choice(("", "nan", "-1", "1e999", "text", '"', "a,b", "\x00"))
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    return f"{path.relative_to(run)} line {row + 1} changed{_sealed(rng, path)}"


def _bytes(rng: random.Random, run: Path) -> str:
    path = rng.choice(_files(run))
    raw = bytearray(path.read_bytes())
    if raw:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw[: rng.choice((len(raw), len(raw) // 2))])
    return f"{path.relative_to(run)} has other bytes{_sealed(rng, path)}"


def _sums(rng: random.Random, run: Path) -> str:
    path = rng.choice([p for p in _files(run) if p.name == SUMS] or [run / SUMS])
    nought = "0" * 64
    lines = {
        "leads out": f"{nought}  ../../../etc/passwd\n{nought}  /etc/passwd\n",
        "is no checksum": "x\n\n  \n" + nought + "\n",
        "speaks of folders": f"{nought}  .\n{nought}  tables\n{nought}  {'x' * 300}\n",
        "is long": f"{nought}  none\n" * 200_000,
        "names with NUL": f"{nought}  a\x00b\n{nought}  a\udcffb\n",
    }
    said = rng.choice(list(lines))
    path.write_bytes(lines[said].encode("utf-8", "surrogateescape"))
    return f"{path.relative_to(run)} {said}"


def _odd_names(rng: random.Random, run: Path) -> str:
    parent, name = rng.choice([p for p in (run, *run.rglob("*")) if p.is_dir()]), rng.choice(NAMES)
    at = os.path.join(os.fsencode(parent), name)
    if rng.random() < 0.5:
        os.makedirs(at, exist_ok=True)
        if _is_file(run / "manifest.json"):
            shutil.copyfile(run / "manifest.json", os.path.join(at, b"manifest.json"))
    elif not os.path.exists(at):
        Path(os.fsdecode(at)).write_text("x")
    return f"{name!r} lies in {parent.relative_to(run)}"


def _many(rng: random.Random, run: Path) -> str:
    folder = run / MODEL / rng.choice(("tables", ".kept", ".partial", "more"))
    if folder.is_dir() or not os.path.lexists(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(2000):
            (folder / f"{i}.csv").touch()
    return f"2000 files in {folder.relative_to(run)}"


def _records(rng: random.Random, run: Path) -> str:
    """A journal with a valid checksum and other values."""
    path = run / MODEL / ".partial" / f"{WRITING}-{'0' * 16}.journal"
    values = {"seconds": rng.choice(VALUES), "new_ids": rng.choice(VALUES), "n_bytes": rng.choice(VALUES)}
    if path.parent.is_dir():
        path.write_bytes(record_bytes("a", {k: v for k, v in values.items() if v != "\ud800"}))
    return f"a journal says {str(values)[:60]}"


CHANGES: tuple[Callable[[random.Random, Path], str], ...] = (
    _another_kind, _another_kind, _other_json, _other_json, _other_json, _other_cell, _bytes, _sums, _odd_names,
    _records, _many,
)  # fmt: skip


def _one(rng: random.Random, run: Path, among: list[Path]) -> Path:
    """One of these; what every reader begins with more often than the rest."""
    first = [p for p in among if p.name in ("manifest.json", "model.json", "step.json", MODEL, READING)]
    return rng.choice((first if rng.random() < 0.5 else among) or [run / "manifest.json"])


def _places(run: Path) -> list[Path]:
    return sorted(run.rglob("*"))


def _files(run: Path) -> list[Path]:
    """Regular files that are no link and no larger than what a test may read."""
    return [p for p in _places(run) if _is_file(p)] or [run / "manifest.json"]


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 2**20 and os.access(path, os.R_OK)


def _inside(data: Any, depth: int = 6) -> Iterator[tuple[Any, ...]]:
    yield ()
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, inner in list(pairs) if depth else ():
        yield from ((key, *at) for at in _inside(inner, depth - 1))


def _sealed(rng: random.Random, path: Path) -> str:
    """In half of the cases the checksum is made anew, as a liar would."""
    if rng.random() < 0.5:
        return ""
    for folder in path.parents:
        noted = folder / SUMS
        if _is_file(noted):
            name = path.relative_to(folder).as_posix()
            lines = [line for line in noted.read_text(errors="replace").splitlines() if not line.endswith(f"  {name}")]
            noted.write_text("\n".join([*lines, f"{sha256_of(path)}  {name}"]) + "\n")
            return ", with its checksum"
    return ""
