"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

Backend = Annotated[str, typer.Option(help="auto, bridge or hooked (HookedTransformer, TransformerLens 3.x).")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps, or auto: over every GPU; default the best there is.")]
Quantise = Annotated[Optional[str], typer.Option(help="8bit or 4bit, through bitsandbytes.")]  # noqa: UP045
Stimuli = Annotated[
    Optional[str],  # noqa: UP045 - typer reads the annotation at run time
    typer.Option(help="passages, world-en, world-en-zh or a TOML or JSON file; default the model's own set."),
]
