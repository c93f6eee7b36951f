"""Make the README's two pictures from a run folder.

    lens-emotion study FOLDER_OF_SMOLLM2 --judge ENCODER_FOLDER --out runs/smollm2
    python scripts/make_readme_images.py runs/smollm2/smollm2 docs/images

PNG needs Chrome or Chromium (through kaleido).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image

import lens_emotion as le

LIMIT = 150_000  # bytes: a README is read on slow lines too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder of one model in a run folder of `lens-emotion study`")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    save(written_against_read(args.model), args.out / "written_against_read.png")
    dose = pio.from_json((args.model / "figures" / "dose_response.json").read_text(encoding="utf-8"))
    save(dose, args.out / "dose_response.png")


def written_against_read(model: Path) -> go.Figure:
    """Held-out decoding of stories a model wrote (as claim C1 takes them) against passages it read, over layers."""
    written, read = (
        le.PooledActivations.load(model / file)
        for file in ("generation/conditioned.safetensors", "comprehension/story_mean.safetensors")
    )
    return by_layer_only(le.plots.compare(le.compare(written, read)))


def by_layer_only(figure: go.Figure) -> go.Figure:
    """Without the right half (emotions and topics), which is too fine for a picture in a text."""
    figure.data = [trace for trace in figure.data if trace.xaxis != "x2"]
    figure.layout.annotations = [a for a in figure.layout.annotations if a.xref != "x2 domain"]
    facts = figure.layout.title.subtitle.text.replace(" · bars", " · chance 0.05<br>bars")
    figure.update_layout(width=860, height=560, title_subtitle_text=facts, margin_t=figure.layout.margin.t + 15)
    figure.update_layout(xaxis2_visible=False, yaxis2_visible=False)
    for axis in ("xaxis", "xaxis3"):
        figure.layout[axis].domain = (0, 1)
    return figure


def save(figure: go.Figure, target: Path) -> None:
    """A PNG on white paper."""
    from lens_emotion.plots import on_paper

    figure = on_paper(figure)
    wide, high = int(figure.layout.width or 1080), int(figure.layout.height or 520)
    figure.write_image(target, width=wide, height=high, scale=1.2)
    Image.open(target).convert("RGB").quantize(128).save(target, optimize=True)  # few colours: half of the bytes
    size = target.stat().st_size
    print(f"{target}: {size // 1000} kB" + (" (over the limit)" if size > LIMIT else ""))


if __name__ == "__main__":
    main()
