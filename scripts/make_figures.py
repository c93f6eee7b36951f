"""Make the figures under figures/: data as CSV, picture as PNG.

    python scripts/make_figures.py              # runs (or continues) a study of tiny-llama in runs/figures first
    python scripts/make_figures.py runs/study   # from a run folder that exists

PNG needs Chrome or Chromium (through kaleido).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import plotly.io as pio

ROOT = Path(__file__).resolve().parent.parent
# figure -> the tables it is drawn from
FIGURES = {
    "layer_sweep_comprehension": ("decoding_comprehension",),
    "separation_comprehension": ("separation_comprehension",),
    "separation_the_papers_generation_preset": ("separation_jeong",),
    "similarity": ("similarity",),
    "circumplex": ("circumplex", "circumplex_correlations"),
    "anisotropy": ("anisotropy",),
    "confusion": ("confusion_comprehension",),
    "dose_response": ("steering",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `lens-emotion study`")
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    args = parser.parse_args()
    run = args.run or small_run(ROOT / "runs" / "figures")
    models = sorted(p.parent for p in run.glob("*/figures"))
    if not models:
        parser.error(f"{run} holds no figures; run `lens-emotion study --out {run}` first")
    for model in models:
        target = args.out / model.name
        target.mkdir(parents=True, exist_ok=True)
        for name, tables in FIGURES.items():
            source = model / "figures" / f"{name}.json"
            if not source.exists():
                continue
            for table in tables:
                shutil.copyfile(model / "tables" / f"{table}.csv", target / f"{table}.csv")
            draw(source, target / name)
        print(f"{target}: {len(list(target.glob('*.png')))} figures, {len(list(target.glob('*.csv')))} tables")


def small_run(folder: Path) -> Path:
    """A study of one tiny model; finished steps are read back."""
    from lens_emotion.report_build import build_report
    from lens_emotion.study.config import StudyConfig
    from lens_emotion.study.pipeline import run_study

    build_report(run_study(StudyConfig(models=("tiny-llama",)), folder, "python scripts/make_figures.py"))
    return folder


def draw(source: Path, target: Path) -> None:
    """A PNG on white paper."""
    from lens_emotion.plots import on_paper

    figure = on_paper(pio.from_json(source.read_text(encoding="utf-8")))
    width = int(figure.layout.width or 900)
    height = int(figure.layout.height or 520)
    figure.write_image(target.with_suffix(".png"), width=width, height=height, scale=1.5)


if __name__ == "__main__":
    main()
