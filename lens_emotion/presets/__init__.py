"""Protocols of others, as they were published, and the numbers they gave."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from lens_emotion import _files_of

    __getattr__ = _files_of(__name__)
