"""Figures of finished runs as files: data, picture and caption of each. Nothing is computed here.

    lens-emotion figures runs/study --out figures

Each figure is drawn from a run folder that `lens-emotion study` made: its activations and texts are read back and
analysed again with the run's own seeds, so that the same run gives the same bytes of data. No model is loaded.
"""

from __future__ import annotations

from lens_emotion.figures.drawn import Drawn, FigureSet
from lens_emotion.figures.files import write_set
from lens_emotion.figures.gallery import write_gallery
from lens_emotion.figures.sets import across_set, run_set

__all__ = ["Drawn", "FigureSet", "across_set", "run_set", "write_gallery", "write_set"]
