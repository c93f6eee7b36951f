"""The playground in a notebook: widgets around the same session, for one emotion at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from html import escape
from typing import Any

from lens_emotion.errors import LensEmotionError, need_extra
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.access import Model
from lens_emotion.play.asks import MAX_TOKENS, Ask, Look
from lens_emotion.play.session import Event, Session, look, push_of, session_of, write
from lens_emotion.steering.comparison import COLUMNS
from lens_emotion.vectors.emotion_vectors import EmotionVectors

_BOX = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; padding: 0 1em 0 0"


@dataclass(frozen=True, eq=False)
class Explorer:
    """Widgets by name; as the last line of a cell it shows itself.

    Attributes:
        inputs: prompt, emotion, dose, layer, tokens, temperature, seed, control, test.
        write, read: the buttons: write the texts; score the tokens of the steered text (of the prompt before that).
        texts: one HTML widget per column. status: regime and why, or what went wrong. heat: the token map.
        box: all of them, laid out.
    """

    session: Session
    inputs: dict[str, Any]
    write: Any
    read: Any
    texts: dict[str, Any]
    status: Any
    heat: Any
    box: Any
    written: dict[str, str]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.box._repr_mimebundle_(**options)


def explorer(model: Model, vectors: EmotionVectors, acts: PooledActivations | None = None) -> Explorer:
    """Steer by widgets: prompt, emotion, dose and layer; steered text beside unsteered and random; a token map.

    Args:
        acts: the texts behind the vectors, which token scores are compared with; by default the model's own texts,
            read once and kept in runs/readings as `lens-emotion play` does, so that both say the same of a token.
        model: of either TransformerLens class.
        vectors: of this model.

    Raises:
        MissingExtraError: ipywidgets is not installed.
        FingerprintError: vectors of another model.

    Example:
        >>> le.explorer(model, vectors, acts)  # doctest: +SKIP
    """
    need_extra("notebooks", "the explorer", "ipywidgets")
    session = session_of(model, vectors, acts)
    made = _widgets(session)
    made.write.on_click(lambda _: _guarded(made, _write))
    made.read.on_click(lambda _: _guarded(made, _read))
    return made


def _widgets(session: Session) -> Explorer:
    import ipywidgets as w

    wide, n_layers = w.Layout(width="98%"), session.vectors.n_layers
    inputs = {
        "prompt": w.Textarea(session.openings[0], description="prompt", layout=wide),
        "emotion": w.Dropdown(options=session.vectors.emotions, description="emotion"),
        "dose": w.FloatSlider(3.0, min=-16.0, max=16.0, step=0.25, description="dose", continuous_update=False),
        "layer": w.IntSlider(n_layers // 2, min=0, max=n_layers - 1, description="layer", continuous_update=False),
        "tokens": w.BoundedIntText(40, min=1, max=MAX_TOKENS, description="new tokens"),
        "temperature": w.BoundedFloatText(
            session.temperature, min=0.0, max=2.0, step=0.1, description="temp.", tooltip="temperature: 0 is greedy"
        ),
        "seed": w.BoundedIntText(0, min=0, max=2**31 - 1, description="seed"),
        "control": w.Checkbox(True, description="random direction of the same length", indent=False),
        "test": w.Checkbox(False, description="test against 19 of them", indent=False),
    }
    write_button = w.Button(description="Write", button_style="primary")
    read_button = w.Button(description="Read tokens")
    texts = {column: w.HTML(layout=w.Layout(width="33%")) for column in COLUMNS}
    status, heat = w.HTML(), w.HTML()
    rows = [inputs["prompt"]]
    for names in (("emotion", "dose", "layer"), ("tokens", "temperature", "seed"), ("control", "test")):
        rows.append(w.HBox([inputs[name] for name in names]))
    rows += [w.HBox([write_button, read_button]), w.HBox(list(texts.values())), status, heat]
    return Explorer(session, inputs, write_button, read_button, texts, status, heat, w.VBox(rows), {})


def _guarded(made: Explorer, act: Any) -> None:
    """What the user can mend is said in the status line, not thrown into the log."""
    for button in (made.write, made.read):
        button.disabled = True
    try:
        act(made)
    except LensEmotionError as error:
        made.status.value = f'<p role="alert"><b>Not possible:</b> {escape(str(error))}</p>'
    finally:
        for button in (made.write, made.read):
            button.disabled = False


def _write(made: Explorer) -> None:
    asked = {name: widget.value for name, widget in made.inputs.items()}
    layer = asked.pop("layer")
    mix = {asked.pop("emotion"): 1.0}
    ask = Ask(mix=mix, layers=(layer, layer), unit="natural", positions="all", chat=False, **asked)
    push = push_of(made.session, ask)
    for widget in made.texts.values():
        widget.value = ""
    first = "" if made.written else " (the first time, unsteered texts of the model are measured too)"
    made.status.value = f"<p>{escape('writing…' + first)}</p>"
    write(made.session, push, ask.test, lambda event: _show(made, ask.prompt, event), threading.Event())


def _show(made: Explorer, prompt: str, event: Event) -> None:
    for column, text in event.get("texts", {}).items():
        said = f'<span style="opacity: 0.65">{escape(prompt)}</span>{escape(text)}'
        made.texts[column].value = f"<b>{column}</b><div style='{_BOX}'>{said}</div>"
    if event["type"] == "texts":
        made.written.update(event["texts"], prompt=prompt)
        made.status.value = "<p>measuring…</p>"
    elif event["type"] == "verdict":
        made.status.value = f"<p>{escape(event['summary'])}</p>"


def _read(made: Explorer) -> None:
    inputs, last = made.inputs, made.written
    text = last["prompt"] + last["steered"] if last else inputs["prompt"].value
    found = look(made.session, Look(text, (inputs["emotion"].value,), inputs["layer"].value))
    made.heat.value = _heat(found)


def _heat(found: Event) -> str:
    """Tokens as spans: blue towards the emotion, vermilion away; values on hover; underlined where the summary counts
    them."""
    row = found["emotions"][0]
    top = max((abs(x) for x in row["scores"] if x is not None), default=1.0) or 1.0
    spans = []
    for token, score, low, high, p in zip(
        found["tokens"], row["scores"], row["low"], row["high"], row["p"], strict=True
    ):
        style, title = "opacity: 0.5", "not scored"
        if score is not None:
            tone = "0,114,178" if score > 0 else "213,94,0"
            style = f"background: rgba({tone},{0.6 * abs(score) / top:.2f})"
            style += "; border-bottom: 2px solid currentColor" if p <= 0.05 and score > 0 else ""
            title = f"{row['name']} {score:+.2f}, random {low:+.2f} to {high:+.2f}, p = {p:.3f}"
        spans.append(f'<span style="{style}" title="{escape(title)}">{escape(token)}</span>')
    return f"<div style='{_BOX}'>{''.join(spans)}</div><p>{escape(found['summary'])}</p>"
