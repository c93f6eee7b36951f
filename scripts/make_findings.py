"""The project's own result: figures, tables and the page of findings from one sealed study of three small models.

    python scripts/make_findings.py --study FOLDER    # all of it: hours on two cores; FOLDER holds models/ and judge/
    python scripts/make_findings.py --run RUN         # figures, data and page of a finished run
    python scripts/make_findings.py                   # the page alone, from the data in figures/: no model, no run

The design is figures/three-small-models/study.toml. A run's tables are kept in figures/three-small-models/data; in
docs/findings.md whatever stands between two marks is made of them, so that page and data cannot part.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
NAME = "three-small-models"
SET = ROOT / "figures" / NAME
DATA, DESIGN, PAGE = SET / "data", SET / "study.toml", ROOT / "docs" / "findings.md"
OVER = ("claims.csv", "protocols.csv", "published_numbers.csv", "rsa.csv")  # tables of the run
OF_A_MODEL = ("words.csv", "words_baselines.csv", "published_suppression.csv", "published_regimes.csv", "steering.csv")
ALL = "all models"
TITLES = {
    "smollm2-135m-instruct": "SmolLM2-135M",
    "qwen2.5-coder-0.5b-instruct": "Qwen2.5-Coder-0.5B",
    "qwen2.5-coder-1.5b-instruct": "Qwen2.5-Coder-1.5B",
    ALL: "all three",
}
MARK = re.compile(r"(<!-- (\w+): made by scripts/make_findings.py -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--study", type=Path, help="run the study in this folder, which holds models/ and judge/")
    given.add_argument("--run", type=Path, help="a finished run folder")
    args = parser.parse_args()
    run = study(args.study) if args.study else args.run
    if run:
        keep(run.resolve())
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def study(folder: Path) -> Path:
    """Run the sealed design, or go on with it."""
    shutil.copyfile(DESIGN, folder / "study.toml")
    _call("study", "study.toml", "--seal", "--out", f"runs/{NAME}", at=folder)
    return folder / "runs" / NAME


def keep(run: Path) -> None:
    """Figures, and the tables that the page is made of."""
    if run.name != NAME:
        sys.exit(f"the run folder is called {NAME}, as its figures are; got {run.name}")
    DATA.mkdir(parents=True, exist_ok=True)
    _call("audit", str(run), "--json", str(DATA / "audit.json"), "--overwrite", allowed=(0, 1))
    for name in OVER:
        shutil.copyfile(run / "tables" / name, DATA / name)
    shutil.copyfile(run / "sealed.json", DATA / "sealed.json")
    for model in models():
        for name in OF_A_MODEL:
            shutil.copyfile(run / model / "tables" / name, DATA / f"{model}.{name}")
    _call("figures", str(run), "--out", str(ROOT / "figures"), "--overwrite")


def _call(*words: str, at: Path = ROOT, allowed: Iterable[int] = (0,)) -> None:
    done = subprocess.run([sys.executable, "-m", "lens_emotion", *words], cwd=at)
    if done.returncode not in allowed:
        sys.exit(f"lens-emotion {words[0]} ended with {done.returncode}")


def page(text: str) -> str:
    """The page with every marked part made anew."""
    return MARK.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def models() -> list[str]:
    return [name for name in TITLES if name != ALL]


# What stands between the marks.


def table(rows: Iterable[Iterable[str]], head: Iterable[str]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(DATA / name, keep_default_na=False, na_values=[""])


def said(name: str) -> pd.DataFrame:
    """A table as it is written, every cell as text."""
    return pd.read_csv(DATA / name, keep_default_na=False, dtype=str)


def _number(row: pd.Series) -> str:
    """Under a verdict: the value with its interval, or with its p where it has none."""
    if pd.isna(row["value"]):
        return ""
    beside = f" [{row['low']:+.2f}, {row['high']:+.2f}]" if pd.notna(row["low"]) else ""
    beside = beside or ("" if pd.isna(row["p"]) else f", p = {row['p']:.2g}")
    return f"<br>{row['effect']} {row['value']:+.2f}{beside}"


def verdicts() -> str:
    """A row per claim, a column per model: verdict and number."""
    claims = read("claims.csv")
    rows = []
    for code, mine in claims.groupby("code"):
        of = {r["scope"]: r for _, r in mine.iterrows()}
        cells = [f"**{of[s]['verdict']}**{_number(of[s])}" if s in of else "" for s in models()]
        rows.append([f"{code} {mine['claim'].iloc[0]}", *cells, f"**{of[ALL]['verdict']}**" if ALL in of else ""])
    return table(rows, ["claim", *TITLES.values()])


def reasons() -> str:
    """Why, claim by claim and model by model, with what each number is read against."""
    claims = read("claims.csv")
    lines = []
    for _, row in claims[claims["scope"] != ALL].iterrows():
        null = "" if pd.isna(row["null"]) else f" Against: {row['null']}."
        lines.append(
            f"- {row['code']}, {TITLES.get(row['scope'], row['scope'])}: {row['verdict']}; {row['reason']}.{null}"
        )
    return "\n".join(lines)


def protocols() -> str:
    """Published rules beside ours."""
    found = said("protocols.csv")
    rows = [
        [
            r["code"],
            TITLES.get(r["scope"], r["scope"]),
            r["published"],
            r["ours"],
            r["number"],
            r["control"],
            r["difference"],
        ]
        for _, r in found.iterrows()
    ]
    head = (
        "claim",
        "model",
        "published rule says",
        "ours",
        "published number",
        "its null or control",
        "what parts them",
    )
    return table(rows, head)


def reproduced() -> str:
    """The published numbers, each with what ours is, or why it cannot be asked here."""
    found = said("published_numbers.csv")
    counts = found["status"].value_counts()
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    rows = [[r["model"], r["what"], r["published"], r["ours"], r["status"], r["why"]] for _, r in found.iterrows()]
    return f"{len(found)} numbers: {told}.\n\n" + table(rows, ("model", "number", "published", "ours", "status", "why"))


def words() -> str:
    """Words alone, state, both, at the layer of most increment, and each baseline."""
    rows = []
    for model in models():
        base, layers = read(f"{model}.words_baselines.csv"), read(f"{model}.words.csv")
        alone = base.iloc[-1]
        best = layers.loc[layers["both"].idxmax()]
        rest = base.iloc[:-1].groupby("source", sort=False)["accuracy"].max()
        each = ", ".join(f"{source} {value:.2f}" for source, value in rest.items())
        rows.append(
            [
                TITLES[model],
                f"{alone['accuracy']:.2f} ({each}; permuted labels to {alone['null_high']:.2f})",
                f"{layers['state'].max():.2f}, {layers['state_standardised'].max():.2f}",
                f"{best['increment']:+.2f} [{best['low']:+.2f}, {best['high']:+.2f}] at depth {best['depth']:.0%}, "
                f"shuffled states to {best['null_high']:+.2f}, p = {best['p_corrected']:.3f} corrected over layers",
            ]
        )
    return table(
        rows,
        (
            "model",
            "words alone",
            "states alone, two decoders",
            "state adds, at the layer that looks best (X1 chooses it on other topics)",
        ),
    )


def suppression() -> str:
    """The published suppression table of each model, means over its six texts."""
    rows = []
    for model in models():
        found = read(f"{model}.published_suppression.csv")
        for direction, mine in found.groupby("direction", sort=False):
            m = mine[["before", "after", "random_low", "random_high", "added"]].mean()
            control = f"{m.random_low:+.1f} to {m.random_high:+.1f}"
            rows.append([TITLES[model], direction, f"{m.before:+.1f}", f"{m.after:+.1f}", control, f"{m.added:+.1f}"])
    head = ("model", "projection on", "before", "after steering to calm", "after random directions", "what was added")
    return table(rows, head)


def audit() -> str:
    """Findings of the audit, one row per kind, with where and how much."""
    found = pd.DataFrame(json.loads((DATA / "audit.json").read_text(encoding="utf-8"))["findings"])
    if found.empty:
        return "Nothing was found."
    rows = []
    for (severity, check), mine in found.groupby(["severity", "check"], sort=False):
        worst = mine.loc[mine["moves"].astype(float).abs().idxmax()] if mine["moves"].notna().any() else mine.iloc[0]
        moves = "" if pd.isna(worst["moves"]) else f"{worst['moves']:.2g} {worst['unit']}"
        rows.append([severity, check, str(len(mine)), worst["what"], worst["where"], moves])
    return table(rows, ("severity", "check", "findings", "the worst", "where", "how much it moves"))


def seal() -> str:
    """Date and hash of the design, and its power."""
    sealed = json.loads((DATA / "sealed.json").read_text(encoding="utf-8"))
    rows = [
        [r["claim"], *("" if r[n] is None else f"{r[n]:.2g}" for n in ("smallest", "power", "finds"))]
        for r in sealed["power"]
    ]
    told = f"Sealed {sealed['date']}, version {sealed['version']}, SHA-256 `{sealed['sha256']}`."
    return f"{told}\n\n" + table(rows, ("claim", "smallest effect of interest", "power to show it", "found with .8"))


PARTS: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (verdicts, reasons, protocols, reproduced, words, suppression, audit, seal)
}

if __name__ == "__main__":
    main()
