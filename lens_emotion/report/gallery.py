"""The gallery of `lens-emotion figures`: which exhibits belong to a run and which to several, the files of such a set
(CSV for every table, plotly JSON, PNG and SVG, an index with the captions), and the page over all sets.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.errors import ArtifactError, LensEmotionError
from lens_emotion.files.artifacts import ELSEWHERE, atomic_write
from lens_emotion.files.read import read_json, read_start
from lens_emotion.report.parts import Drawn, FigureSet
from lens_emotion.report.sections import draw
from lens_emotion.run.config import TINY_FIVE, StudyConfig
from lens_emotion.study import exhibits
from lens_emotion.study.across import Across, across
from lens_emotion.study.exhibits import LANGUAGES_OF, Exhibit
from lens_emotion.study.results import StoredModel, StoredRun

INDEX = "index.json"
DIGITS = "%.6g"  # more would differ with the number of threads
NARROW, WIDE = 620, 1150
NO_KALEIDO = (
    "PNG and SVG need kaleido and a Chrome or Chromium: pip install 'lens-emotion[notebooks]', then plotly_get_chrome; "
    "or give --no-images for data and plotly JSON only"
)


class FiguresError(LensEmotionError):
    """Runs from which the figures asked for cannot be drawn."""


def run_set(run: StoredRun, shown: str | None = None) -> FigureSet:
    """All figures of one run: those over its models, and those of one of them.

    Args:
        shown: the model of the figures that show one; default the first. Leakage and tokens are shown of the first Qwen
            where none is named, since the paper's claim is of Qwen.

    Raises:
        FiguresError: the run has no model of that name.
    """
    several, names = len(run.models) > 1, tuple(m.name for m in run.models)
    if shown is not None and shown not in names:
        raise FiguresError(f"{run.name} has no model '{shown}'; it has {', '.join(names)}")
    chosen = run.models[0 if shown is None else names.index(shown)]
    found = across(run.models, run.config.seed, run.claims, chosen)
    figures = []
    for exhibit in exhibits.EXHIBITS:
        model = _of_family(run, exhibit.family, chosen) if exhibit.family and shown is None else chosen
        if not (exhibit.alone and several):
            figures += _drawn(exhibit, found, model)
    speaks = _of_family(run, LANGUAGES_OF, chosen) if shown is None else chosen
    note = chosen.name if speaks is chosen else f"{chosen.name} (leakage and tokens: {speaks.name})"
    return FigureSet(run.name, names, note if several else "", (study_command(run.config),), tuple(figures))


def across_set(name: str, runs: Sequence[StoredRun]) -> FigureSet:
    """The figures that set the models of several runs side by side.

    Raises:
        FiguresError: fewer than two models, or one name twice.
    """
    models = [m for run in runs for m in run.models]
    names = tuple(m.name for m in models)
    if len(names) < 2 or len(set(names)) < len(names):
        raise FiguresError(f"comparing models takes at least two with distinct names; got {', '.join(names)}")
    found = across(models, runs[0].config.seed)
    figures = [d for e in exhibits.EXHIBITS if e.scope == "models" for d in _drawn(e, found, models[0])]
    missing = {} if found.architecture else {"architecture": "fewer than two models break within their doses"}
    commands = tuple(study_command(run.config) for run in runs)
    return FigureSet(name, names, "", commands, tuple(figures), missing=missing)


def _drawn(exhibit: Exhibit, found: Across, model: StoredModel) -> list[Drawn]:
    """The exhibit's figure, if it belongs in a gallery and there is a result; that of one model says so first."""
    result = exhibit.found(model.study if exhibit.scope == "model" else found) if exhibit.question else None
    if result is None:
        return []
    figure = draw(exhibit, result)
    if exhibit.scope != "models" and model.name not in (figure.layout.title.subtitle.text or ""):
        figure = plots.about(figure, model.name + exhibit.how)
    name = exhibit.gallery or exhibit.id
    return [Drawn(name, exhibit.question, exhibit.says(result), figure, exhibit.data(result))]


def _of_family(run: StoredRun, family: str, chosen: StoredModel) -> StoredModel:
    return next((m for m in run.models if m.study.info.family == family), chosen)


def study_command(config: StudyConfig) -> str:
    """The command that makes such a run: options that differ from the defaults, folders by their last name. What only
    some of its models have needs a study file, and stands behind the command."""
    default = StudyConfig()
    words = ["lens-emotion", "study", *(() if config.models == default.models else map(_last, config.models))]
    for name in (f.name for f in fields(StudyConfig)):
        value = getattr(config, name)
        if name in ("models", "overrides", "jeong_tokens", "steered_tokens") or value == getattr(default, name):
            continue
        flag = name.removeprefix("n_").replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--no-{flag}")
        else:
            parts = value if isinstance(value, tuple) else (_last(str(value)),)
            words += [f"--{flag}", ",".join(x if isinstance(x, str) else f"{x:g}" for x in parts)]
    own = "; ".join(f"{_last(model)}: {_settings(of)}" for model, of in config.overrides.items())
    return " ".join(words) + (f"  # with, in a study file, {own}" if own else "")


def _settings(of: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_last(str(value))}" for name, value in of.items())


def _last(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


class ImagesError(LensEmotionError):
    """Pictures cannot be written."""


def write_set(figures: FigureSet, out: Path, images: bool = True) -> Path:
    """Write one folder of figures; files of the same names are replaced, others are left.

    Returns:
        The folder.

    Raises:
        ImagesError: pictures are asked for and kaleido or a browser is missing.
    """
    folder = out / figures.name
    # first, since it says whose the folder is
    atomic_write(folder / INDEX, json.dumps(_index(figures), indent=1, ensure_ascii=False) + "\n")
    for drawn in figures.figures:
        for part, table in drawn.tables.items():
            atomic_write(folder / f"{_stem(drawn, part)}.csv", csv(table))
        atomic_write(folder / f"{drawn.name}.json", plotly_json(drawn.figure))
    if images:
        _write_images(figures.figures, folder)
    return folder


def check_set(folder: Path, models: Sequence[str], made_by: Sequence[str]) -> None:
    """Whether the figures of these models may be written into a folder: it is new, or holds theirs.

    Raises:
        FiguresError: figures of another study of the same name, or files that are no figures of ours.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    held = _read_index(folder)
    if (held.get("models"), held.get("made_by")) != (list(models), list(made_by)):
        whose = f"the figures of {', '.join(held['models'])}" if held else "what this command did not write"
        raise FiguresError(f"{folder} holds {whose}; {ELSEWHERE}")


def check_gallery(out: Path, overwrite: bool = False) -> None:
    """Raises FiguresError if a README.md lies in the folder that is no gallery, or a folder in its place."""
    page = out / "README.md"
    if not os.path.lexists(page):
        return
    ours = page.is_file() and HEAD[:60].encode() == read_start(page, 60)
    if not ours and not (overwrite and page.is_file()):
        raise FiguresError(f"{page} is not of this command; {ELSEWHERE}")


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        held = read_json(folder / INDEX)
        return held if isinstance(held["figures"], list) and isinstance(held["models"], list) else {}
    except (ArtifactError, KeyError, TypeError):
        return {}


def csv(table: pd.DataFrame) -> str:
    """A table with six significant digits and one kind of line end."""
    return str(table.to_csv(index=False, lineterminator="\n", float_format=DIGITS))


def plotly_json(figure: go.Figure) -> str:
    """The interactive figure (`plotly.io.read_json`), its numbers as text of six significant digits."""
    return json.dumps(_rounded(figure.to_plotly_json()), ensure_ascii=False, separators=(",", ":")) + "\n"


def _rounded(value: object) -> object:
    """Plain values: floats of six digits, arrays (encoded or not) as lists, what is not a number as null."""
    if isinstance(value, dict) and "bdata" in value:
        shape = [int(n) for n in str(value.get("shape", "-1")).split(",")]
        value = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).reshape(shape)
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, float):
        return float(DIGITS % value) if value - value == 0 else None
    return value


def check_images() -> None:
    """Before any long work: is there what pictures need?

    Raises:
        ImagesError: kaleido is not installed, or finds no browser.
    """
    _kaleido(lambda: go.Figure().to_image("svg"))


def _kaleido(draw: Callable[[], object]) -> None:
    try:
        draw()
    except (ImportError, ValueError, RuntimeError) as error:
        raise ImagesError(f"{NO_KALEIDO} ({str(error).strip().splitlines()[0]})") from None


def _write_images(drawn: tuple[Drawn, ...], folder: Path) -> None:
    """All pictures with one browser, white paper and near-black ink; PNG with two pixels for one, for dense screens."""
    import plotly.io as pio

    papers = [plots.on_paper(d.figure) for d in drawn]
    width = [WIDE if d.figure.layout.meta["wide"] else NARROW for d in drawn]
    height = [int(d.figure.layout.height) for d in drawn]
    with TemporaryDirectory() as scratch:
        made = [Path(scratch) / f"{d.name}.{kind}" for kind in ("png", "svg") for d in drawn]
        sizes = {"width": width * 2, "height": height * 2, "scale": [2] * len(drawn) + [1] * len(drawn)}
        _kaleido(lambda: pio.write_images(papers * 2, [str(p) for p in made], **sizes))
        for path in made:
            atomic_write(folder / path.name, lean_png(path) if path.suffix == ".png" else lean_svg(path))


def lean_png(path: Path) -> bytes:
    """The picture with a palette of 256 colours, none of them off by more than a few steps: a third of the bytes."""
    from PIL import Image

    made = BytesIO()
    Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        made, "PNG", optimize=True
    )
    return made.getvalue()


def lean_svg(path: Path) -> str:
    """The drawing with two decimals, and the font named once instead of at every word."""
    text = re.sub(r"(\d\.\d{2})\d+", r"\1", path.read_text(encoding="utf-8"))
    fonts = re.findall(r"font-family: ([^;]*);", text)
    if fonts:
        text = text.replace(f"font-family: {fonts[0]}; ", "").replace("<svg ", f'<svg font-family="{fonts[0]}" ', 1)
    return re.sub(r"(?<![-\w])opacity: 1; ", "", text) + "\n"


def _stem(drawn: Drawn, part: str) -> str:
    return f"{drawn.name}.{part}" if part else drawn.name


def _index(figures: FigureSet) -> dict[str, object]:
    """What the gallery says of the set."""
    rows = [
        {
            "name": d.name,
            "question": d.question,
            "title": str(d.figure.layout.title.text).replace("<br>", " "),
            "says": d.says,
            "facts": str(d.figure.layout.title.subtitle.text),
            "data": [f"{_stem(d, part)}.csv" for part in d.tables],
        }
        for d in figures.figures
    ]
    head = {"models": list(figures.models), "shown": figures.shown, "made_by": list(figures.made_by)}
    return head | {"drawn_by": figures.drawn_by, "missing": dict(figures.missing), "figures": rows}


HEAD = """# Figures

Every picture stands beside the data it was drawn from: `NAME.csv` (and `NAME.PART.csv`), `NAME.svg`, `NAME.png`, and
`NAME.json`, the interactive figure (`plotly.io.read_json("NAME.json").show()`). The caption is the analysis's own
sentence, with its null. There is no HTML: a page that works offline carries plotly.js, which is over 4 MiB; a run's
`report.html` has it once, for all figures.

A run folder gives the same bytes of data each time (six significant digits). To draw your own:

    lens-emotion figures RUN [RUN ...] --out figures

This page is written by that command. Folders of models and judges are given by their last name.
"""
TOY = "\nThe tiny models are trained on a written toy world: a check of the tool, not a finding about language models."


def write_gallery(out: Path) -> Path:
    """Write README.md for all sets in a folder, those of earlier calls too."""
    found = {i.parent.name: held for i in sorted(out.glob(f"*/{INDEX}")) if (held := _read_index(i.parent))}
    contents = "".join(
        f"- [{name}](#{_anchor(name)}): {len(data['figures'])} figures of {', '.join(data['models'])}\n"
        for name, data in found.items()
    )
    return atomic_write(out / "README.md", "\n".join([HEAD, contents, *(_page(n, d) for n, d in found.items())]))


def _page(name: str, data: dict[str, Any]) -> str:
    shown = f" Figures of a single model show {data['shown']}." if data["shown"] else ""
    n = len(data["models"])
    lines = [f"## {name}\n", f"{n} model{'s' * (n != 1)}: {', '.join(data['models'])}.{shown} Made by\n"]
    lines += [f"    {command}" for command in [*data["made_by"], data["drawn_by"]]]
    if all(model in TINY_FIVE for model in data["models"]):
        lines.append(TOY)
    lines += [f"\nNot drawn: {figure} ({why})." for figure, why in data["missing"].items()]
    lines += [_entry(name, row) for row in data["figures"]]
    return "\n".join(lines) + "\n"


def _entry(folder: str, row: dict[str, Any]) -> str:
    """A picture with its question above, and its caption, numbers and files below."""
    at = f"{folder}/{row['name']}"
    files = [f"[{file}]({folder}/{file})" for file in row["data"]]
    files += [f"[{kind}]({at}.{kind})" for kind in ("json", "svg")]
    facts = row["facts"].replace("<br>", " · ")
    return (
        f"\n### {row['question']}\n\n![{row.get('title', row['question'])}]({at}.png)\n\n{_text(row['says'])}\n\n"
        f"*{_text(facts)}*\n\n{' · '.join(files)}"
    )


def _anchor(heading: str) -> str:
    """How a code host links to a heading."""
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _text(words: str) -> str:
    """Words in which what markdown would take for marks is kept as it is."""
    for mark in ("*", "_", "[", "|"):
        words = words.replace(mark, f"\\{mark}")
    return words
