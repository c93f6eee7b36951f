"""A whole study: its steps, model by model, and what becomes of the claims."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from lens_emotion import _files_of

    __getattr__ = _files_of(__name__)
