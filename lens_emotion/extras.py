"""Optional libraries: one line that names the fix where they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from lens_emotion.errors import MissingExtraError


def need_extra(extra: str, what: str, *libraries: str) -> None:
    """Raises MissingExtraError unless the libraries of an extra are installed; none of them is imported."""
    if missing := [name for name in libraries if find_spec(name) is None]:
        raise MissingExtraError(f'{what} needs {" and ".join(missing)}: pip install "lens-emotion[{extra}]"')
