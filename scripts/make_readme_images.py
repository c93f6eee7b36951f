"""Make the README's pictures from a run folder: two figures, the report, and the playground.

    lens-emotion study FOLDER_OF_SMOLLM2 --judge ENCODER_FOLDER --out runs/smollm2
    python scripts/make_readme_images.py runs/smollm2/smollm2 docs/images --called SmolLM2-135M-Instruct
    python scripts/make_readme_images.py runs/study/tiny-llama docs/images --only report,playground

The report is that of the run which holds the model's folder. It takes Chrome or Chromium (kaleido for the figures).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import plotly.graph_objects as go
from PIL import Image

import lens_emotion as le
from lens_emotion.steering.dose_result import load_dose_response

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # a headless browser, as the tests have it

LIMIT = 200_000  # bytes: a README is read on slow lines too
SIZE = (1280, 800)
PICTURES = ("written_against_read", "dose_response", "report", "playground")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder of one model in a run folder of `lens-emotion study`")
    parser.add_argument("out", type=Path)
    parser.add_argument("--called", default="", help="the model's name in the figures")
    parser.add_argument("--only", default=",".join(PICTURES), help=f"some of {', '.join(PICTURES)}")
    parser.add_argument("--play", default="tiny-llama", help="the model of the playground")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    name = args.called or args.model.name
    made = {
        "written_against_read": lambda at: save(le.plots.about(written_against_read(args.model), name), at),
        "dose_response": lambda at: save(le.plots.about(dose_response(args.model), name), at),
        "report": lambda at: report(args.model.parent / "report.html", at),
        "playground": lambda at: playground(args.play, at),
    }
    for picture in args.only.split(","):
        at = args.out / f"{picture}.png"
        made[picture](at)
        size = at.stat().st_size
        print(f"{at}: {size // 1000} kB" + (" (over the limit)" if size > LIMIT else ""))


def written_against_read(model: Path) -> go.Figure:
    """Held-out decoding of stories a model wrote (as claim C1 takes them) against passages it read, over layers."""
    written, read = (
        le.PooledActivations.load(model / file)
        for file in ("generation/conditioned.safetensors", "comprehension/story_mean.safetensors")
    )
    return by_layer_only(le.plots.compare(le.compare(written, read)))


def dose_response(model: Path) -> go.Figure:
    """Success, perplexity and regime by dose, beside random directions."""
    return le.plots.dose_response(load_dose_response(model / "steering" / "dose_response.json")).update_layout(
        width=760
    )


def by_layer_only(figure: go.Figure) -> go.Figure:
    """Without the right half (emotions and topics), which is too fine for a picture in a text."""
    figure.data = [trace for trace in figure.data if trace.xaxis != "x2"]
    figure.layout.annotations = [a for a in figure.layout.annotations if a.xref != "x2 domain"]
    figure.layout.shapes = [s for s in figure.layout.shapes if not s.xref.startswith("x2")]
    facts = figure.layout.title.subtitle.text.replace(" · bars", "<br>bars")
    figure.update_layout(width=860, height=580, title_subtitle_text=facts, margin_t=figure.layout.margin.t + 15)
    figure.update_layout(xaxis2_visible=False, yaxis2_visible=False)
    for axis in ("xaxis", "xaxis3"):
        figure.layout[axis].domain = (0, 1)
    return figure


def save(figure: go.Figure, target: Path) -> None:
    """A PNG on white paper, with two pixels for one."""
    figure = le.plots.on_paper(figure)
    wide, high = int(figure.layout.width), int(figure.layout.height)
    figure.write_image(target, width=wide, height=high, scale=2)
    few_colours(target)


def few_colours(target: Path) -> None:
    """The same picture with 128 colours: half of the bytes."""
    Image.open(target).convert("RGB").quantize(128).save(target, optimize=True)


def report(page: Path, target: Path) -> None:
    """The first screen of a report."""
    from browser import browser

    with TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser(Path(profile), *SIZE) as tab:
        tab.call("Page.navigate", url=page.resolve().as_uri())
        tab.until("document.readyState === 'complete'")
        shot(tab, target)


def playground(model: str, target: Path) -> None:
    """The page of `lens-emotion play` with texts written at the dose that it opens with."""
    from browser import browser
    from served import served

    from lens_emotion.play.launch import open_session

    session = open_session(le.load_model(model), readings=None)
    with (
        served(session) as up,
        TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser(Path(profile), *SIZE) as tab,
    ):
        tab.call("Page.navigate", url=f"http://127.0.0.1:{up.port}/")
        tab.until("document.readyState === 'complete' && !document.querySelector('#go').disabled")
        tab.js("document.querySelector('#go').click()")
        tab.until(
            "document.querySelectorAll('.writing').length === 0 && document.querySelectorAll('.badge').length > 0"
        )
        shot(tab, target)


def shot(tab: object, target: Path) -> None:
    """What is in the window, in the light theme, with two pixels for one."""
    import base64

    metrics = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1.5, "mobile": False}
    tab.call("Emulation.setDeviceMetricsOverride", **metrics)
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    tab.js("new Promise(done => setTimeout(done, 1500))")
    target.write_bytes(base64.b64decode(tab.call("Page.captureScreenshot")["data"]))
    few_colours(target)


if __name__ == "__main__":
    main()
