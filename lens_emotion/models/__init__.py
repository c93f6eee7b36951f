"""Models: loading, what is known of them, prompts, decoding, layers."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from lens_emotion import _files_of

    __getattr__ = _files_of(__name__)
