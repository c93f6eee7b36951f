"""What lies on a disk, and knows no emotion: artifacts with their seal, journals, checksums, files that users write."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from lens_emotion import _files_of

    __getattr__ = _files_of(__name__)
