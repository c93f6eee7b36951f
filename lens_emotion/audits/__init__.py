"""Results of this field, of whatever origin, asked what may be wrong with them."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from lens_emotion import _files_of

    __getattr__ = _files_of(__name__)
