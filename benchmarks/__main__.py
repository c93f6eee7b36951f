"""Every benchmark that can run here, one table: python -m benchmarks [--quick] [--model FOLDER ...] [--json FILE]

A complete run (not --quick) is kept in benchmarks/results.json and shown in benchmarks/README.md; with --only, the rows
of the other benchmarks stay there as they were.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Options, Row, Skipped, add_options, facts, options_from
from benchmarks.table import README, merged, read_json, text_table, write_json, write_readme

RESULTS = Path(__file__).with_name("results.json")
Benchmark = Callable[[Options], list[Row]]


def found() -> dict[str, Benchmark]:
    """Every benchmark of this folder by name: the modules with a function `rows`, not imported before they run."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    names = [f.stem for f in files if "\ndef rows(" in f.read_text(encoding="utf-8")]
    return {name: partial(_rows, name) for name in names}


def _rows(name: str, options: Options) -> list[Row]:
    return list(importlib.import_module(f"benchmarks.{name}").rows(options))


def run(names: list[str], options: Options) -> tuple[list[Row], dict[str, str], list[str]]:
    """Rows, reasons of what could not run, and names of what failed; one failure does not stop the others."""
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    failed = []
    for name, benchmark in found().items():
        if names and name not in names:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += benchmark(options)
        except Skipped as reason:
            skipped[name] = str(reason)
        except Exception as error:
            traceback.print_exc()
            skipped[name] = f"failed: {type(error).__name__}: {error}".splitlines()[0]
            failed.append(name)
    return rows, skipped, failed


def main(arguments: list[str] | None = None) -> int:
    args = _arguments(arguments)
    options = options_from(args)
    torch.set_num_threads(options.threads)
    rows, skipped, failed = run(args.only, options)
    path = args.json or (None if options.quick else RESULTS)
    print(text_table(rows))
    print("".join(f"not run: {name}: {why}\n" for name, why in skipped.items()), end="")
    if path is not None:
        _keep(path, options, rows, skipped, args.only)
        if args.readme is not None:
            write_readme(read_json(path), args.readme)
    met = [r.met for r in rows if r.met is not None]
    print(
        f"{len(rows)} rows, {sum(met)} of {len(met)} goals met" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return int(bool(failed))


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", choices=found(), help="these benchmarks")
    parser.add_argument("--json", type=Path, help=f"write the run there (default, unless --quick: {RESULTS.name})")
    parser.add_argument("--readme", type=Path, help="README whose table is written from that (default, unless --quick)")
    args = parser.parse_args(arguments)
    if args.readme is None and args.json is None and not args.quick:
        args.readme = README
    if args.readme is not None and args.json is None and args.quick:
        parser.error("--quick with --readme needs --json FILE: the table is written from that file")
    return args


def _keep(path: Path, options: Options, rows: list[Row], skipped: dict[str, str], only: list[str]) -> None:
    """Write the run; with --only, keep what the file held of the other benchmarks."""
    if only and path.exists():
        old = read_json(path)
        rows = merged(old["rows"], rows)
        skipped = {k: v for k, v in old["skipped"].items() if k not in only} | skipped
    write_json(path, facts(options), rows, skipped)


if __name__ == "__main__":
    sys.exit(main())
