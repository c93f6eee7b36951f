"""What is made of stored runs: comparisons, a run read back, its stories, and the words about who writes in it."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.fuzz_grammar import fault_of_names, fault_of_numbers, fault_of_texts, first, told
from benchmarks.fuzz_runs import DATE, MODEL, Says, json_reader, or_none, stored_run
from benchmarks.fuzz_subjects import Reader


def stored_readers(folder: Path) -> list[Reader]:
    """Each over a copy of its own of one small stored run."""
    good = stored_run(folder / "good")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, folder / name / "run"))

    return [
        *_compared(copy("compared"), good),
        *_stored(copy("stored")),
        _written(copy("written")),
        _locked(copy("locked")),
    ]


# Comparison.


# Tables: cells that lie in a table of the right form, and tables of other forms.

Cells = list[list[str]]
Names = tuple[str, ...]
CELLS = (
    "", "nan", "inf", "-inf", "1e999", "1e308", "-1e308", "-1", "9" * 400, "a\nb", '"', "\0", "True", "0x10",
    "x" * 99_999, "1_0", "\u0661", "1.5", " 1", "x",
)  # fmt: skip


def cells_in(data: bytes) -> Cells:
    return [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row]


def _table_lie(good: Cells, rng: random.Random) -> bytes:
    rows = [list(row) for row in good]
    head, *rest = rows
    if rng.random() < 0.75:
        rows[rng.randrange(len(rows))][rng.randrange(len(head))] = rng.choice(CELLS)
    else:
        forms: tuple[Cells, ...] = (
            [], [[]], [head], rows[:-1], [*rows, rest[0]], [r[:-1] for r in rows], [[*r, "x"] for r in rows],
            [head, rest[0][:-1], *rest[1:]], [head, [*rest[0], "y"], *rest[1:]], [[*r, *r] for r in rows], rest,
        )  # fmt: skip
        rows = rng.choice(forms)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def table_of_run(name: str, place: Path, read: Callable[[Path], Any], says: Says, **more: Any) -> Reader:
    """A table in a run: any lie in it, judged as it stands."""
    good = place.read_bytes()
    lies = partial(_table_lie, cells_in(good))
    right = lambda data, result: not says(data, result)  # noqa: E731
    return Reader(name, good, read, right, lies=lies, says=says, place=place, weight=3, **more)


# Comparison.


def _compared(run: Path, good: Path) -> list[Reader]:
    from lens_emotion.run.look import compare_runs

    for sums in (run, good):
        (sums / "SHA256SUMS").unlink()  # so that cells, not checksums, are compared
    place = run / MODEL / "tables" / "lens.csv"
    read = lambda path: compare_runs(run, good)  # noqa: E731
    tables, facts = partial(_cells_compared, cells_in(place.read_bytes())), partial(_facts_compared, good)
    return [
        table_of_run("compare_runs, tables", place, read, tables, lenient=True),
        json_reader("compare_runs, manifest", run / "manifest.json", read, facts, lenient=True, weight=3),
    ]


def _cells_compared(cells: Cells, data: bytes, found: Any) -> str:
    """As many cells differ as by another reader of CSV; or it is said why none were compared."""
    rows = found.tables[(found.tables.model == MODEL) & (found.tables.table == "lens")]
    if len(rows) != 1:
        return "the table is not compared"
    row = rows.iloc[0]
    if row.note or found.damaged:
        return ""
    mine = cells_in(data)
    alike = [len(r) for r in mine] == [len(r) for r in cells]
    differing = sum(a != b for x, y in zip(mine, cells, strict=False) for a, b in zip(x, y, strict=False))
    if mine[0] != cells[0] or (alike and row.differing != differing) or (not alike and not row.differing):
        return f"{row.differing} cells differ, or {differing}, of {'the same' if alike else 'another'} number of cells"
    gap = float(row.largest)
    return "" if math.isnan(gap) or gap >= 0 else f"a largest difference of {gap:g}"


def _facts_compared(good: Path, data: bytes, found: Any) -> str:
    """A manifest that cannot be read is said to be other than a good one; one that can has its settings compared."""
    facts, whole = or_none(data), json.loads((good / "manifest.json").read_text())
    if not isinstance(facts, dict) or not isinstance(facts.get("config"), dict):
        return "" if len(found.settings) or found.damaged else "a manifest that cannot be read, and no setting differs"
    what, mine, other = set(found.settings["what"]), facts["config"], whole["config"]
    missed = {k for k in mine.keys() | other.keys() if k not in what and _words(mine.get(k)) != _words(other.get(k))}
    if missed and not found.damaged:
        return f"the setting {sorted(missed)[0]!r:.40} differs, and is not told"
    return "settings that differ, of the same manifest" if facts == whole and what else ""


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# A stored run, read back: with its analyses left out.


def _stored(run: Path) -> list[Reader]:
    read = lambda path: _read_back(run)  # noqa: E731
    return [
        json_reader("read_run, model.json", run / MODEL / "model.json", read, _facts_say, weight=3),
        json_reader("read_run, manifest", run / "manifest.json", read, _config_says, weight=3),
        table_of_run("read_run, lens.csv", run / MODEL / "tables" / "lens.csv", read, _lens_says),
        table_of_run("read_run, scripts", run / MODEL / "tables" / "lens_scripts.csv", read, _scripts_say),
    ]


@cache
def _unchecked() -> tuple[type, type]:
    """A model and a run as they are read back, of anything; still what functions say that they return."""
    from lens_emotion.study.results import StoredModel, StoredRun

    class AsModel(StoredModel):
        def __init__(self, evidence: Any, study: Any) -> None:
            vars(self).update(evidence=evidence, study=study)

    class AsRun(StoredRun):
        def __init__(self, name: str, config: Any, models: Any, claims: Any, protocols: Any) -> None:
            vars(self).update(name=name, config=config, models=models, claims=claims, protocols=protocols)

    return AsModel, AsRun


def _read_back(run: Path) -> Any:
    """The run as stored, and what is handed to the analyses: evidence and lens of each model."""
    from lens_emotion.study import stored

    seen: list[Any] = []

    def judge(evidence: Any, lens: Any, *_: Any) -> Any:
        seen.append((evidence, lens))
        return SimpleNamespace(info=evidence.info)

    as_model, as_run = _unchecked()
    nothing = lambda *_: None  # noqa: E731
    quiet: dict[str, Any] = {
        "judge_model": judge,
        "atlas_of": nothing,
        "all_claims": nothing,
        "protocols_of": nothing,
        "state_of": lambda *_, **__: SimpleNamespace(marked=nothing),
        "StoredModel": as_model,
        "StoredRun": as_run,
    }
    with mock.patch.multiple(stored, **quiet):
        return stored.read_run(run), seen


def _facts_say(data: bytes, result: Any) -> str:
    facts, (_, [(evidence, lens)]) = told(data), result
    info = asdict(evidence.info)
    ratings = [asdict(r) for r in evidence.ratings]
    if not _as_given(facts["info"], info) or not _as_given(facts["lens"], vars(lens)):
        return "facts of the model or the lens that the file does not say"
    if not _as_given({k: facts[k] for k in ("kind", "millions", "stimuli")}, vars(evidence)):
        return "plain facts that the file does not say"
    if ratings != facts.get("ratings", []):
        return "ratings that the file does not say"
    whole = ("n_layers", "d_model", "n_ctx", "d_vocab")
    other = (info["n_layers"], info["d_model"]) != (evidence.comprehension.n_layers, evidence.comprehension.d_model)
    typed = [k for k in ("kind", "stimuli") if not isinstance(facts[k], str)]
    return first(
        *(fault_of_numbers(info[k], k, 1, 2**63) for k in whole),  # some configs name a context without end
        "other layers or width than the activations have" if other else "",
        f"{typed[0]} is no text" if typed else "",
        fault_of_numbers(facts["millions"], "millions", 0.0) if type(facts["millions"]) in (int, float) else "no size",
        *(fault_of_numbers([v for v in (r["valence"], r["arousal"]) if v is not None], "a rating") for r in ratings),
        fault_of_names([r["emotion"] for r in ratings], "rated emotion") if ratings else "",
        fault_of_numbers(lens.layer, "the layer", 0, lens.n_layers - 1),
        fault_of_texts(facts),
    )


def _as_given(given: dict[str, Any], made: Any) -> bool:
    """The values of the file, with their types; where a fraction is meant, JSON may write a whole one: 2 is 2.0."""

    def same(mine: Any, said: Any) -> bool:
        return mine == said and (type(mine) is type(said) or (type(mine), type(said)) == (float, int))

    return all(k in made and same(made[k], v) for k, v in given.items())


def _config_says(data: bytes, result: Any) -> str:
    facts, (found, _) = told(data), result
    config = json.loads(json.dumps(asdict(found.config)))
    if other := [k for k, v in facts["config"].items() if k not in config or config[k] != v]:
        return f"the setting {other[0]!r:.40} is not the file's"
    names = [row["name"] for row in facts["models"]]
    return "" if [m.name for m in found.models] == names else "other models than the manifest's"


def _lens_says(data: bytes, result: Any) -> str:
    _, [(evidence, lens)] = result
    vocabulary = evidence.info.d_vocab
    limits = {"rank": (1, vocabulary), "token_id": (0, vocabulary - 1), "z": (-1e300, 1e300)}
    return _table_says(data, lens.table, limits, ("emotion", "side", "script"), ("token",))


def _scripts_say(data: bytes, result: Any) -> str:
    _, [(_, lens)] = result
    words = ("emotion", "side", "control", "script")
    fractions = dict.fromkeys((c for c in lens.scripts if c not in words), (0.0, 1.0))
    return _table_says(
        data, lens.scripts, fractions | dict.fromkeys(("mean_z", "z_low", "z_high"), (-1e300, 1e300)), words
    )


def _table_says(
    data: bytes, table: Any, limits: dict[str, tuple[float, float]], named: Names, texts: Names = ()
) -> str:
    """Cell by cell the file's, as another reader of CSV has them; numbers in their limits, names that are some."""
    head, *rows = cells_in(data)
    if any(len(r) != len(head) for r in rows):
        return "rows of unequal length"
    if head != [str(c) for c in table.columns] or len(rows) != len(table):
        return "other columns or rows than the file's"
    for name, (least, most) in limits.items():
        said = [r[head.index(name)] for r in rows]
        try:
            mine = [float(v) for v in table[name]]
            if mine != [float(s) for s in said]:
                return f"{name} is not the file's"
        except (TypeError, ValueError):
            return f"{name} holds what is no number"
        fraction = f"{name} is a fraction" * (name in ("rank", "token_id") and any(v % 1 for v in mine))
        if found := fault_of_numbers(mine, name, least, most) or fraction:
            return found
    for name in (*named, *texts):
        if (mine := list(table[name])) != [r[head.index(name)] for r in rows]:
            return f"{name} is not the file's"
        if name in named and (found := first(*(fault_of_names([word], name) for word in mine))):
            return found
    return ""


# Stories, and who writes.


def _written(run: Path) -> Reader:
    from lens_emotion.stimuli.sets import read_written

    def says(data: bytes, result: Any) -> str:
        texts, why = result
        given = told(data.removeprefix(b"\xef\xbb\xbf"))
        rows = [{("text_id" if k == "id" else k): v for k, v in row.items()} for row in given["items"]]
        mine = [asdict(s) for s in texts.items]
        if len(rows) != len(mine) or any(m[k] != v for m, row in zip(mine, rows, strict=True) for k, v in row.items()):
            return "other stories than the file's"
        if texts.name != given["name"] or why != given.get("_note", ""):
            return "another name or note than the file's"
        return first(
            fault_of_names([s.text_id for s in texts.items], "id"),
            *(fault_of_names([s.emotion], "emotion") for s in texts.items),
            *(fault_of_texts(s.text) for s in texts.items),
        )

    return json_reader("read_written", run / MODEL / "generation" / "stories.json", read_written, says)


def _locked(run: Path) -> Reader:
    from lens_emotion.run import lock

    place = run / lock.WRITER
    place.write_text(
        json.dumps({"pid": 4711, "host": "somewhere", "since": DATE, "command": "lens-emotion study x"}) + "\n"
    )

    def says(data: bytes, said: Any) -> str:
        who = or_none(data)
        if not said.strip() or len(said.splitlines()) > 1 or len(said) > 2000:
            return f"no line of a message: {len(said)} characters"
        if not all(c.isprintable() for c in said):
            return "a message with control characters"
        if "kill" not in said:
            return ""
        pid = who.get("pid") if isinstance(who, dict) else None
        return (
            "" if type(pid) is int and pid >= 1 and f"kill {pid}" in said else f"the advice to end process {pid!r:.30}"
        )

    return json_reader(".writer.json", place, lambda path: str(lock._locked(path.parent)), says, lenient=True)
