"""Writes lens_emotion/__init__.pyi: the public names, as editors and type checkers read them.

    python scripts/make_stub.py            # write it
    python scripts/make_stub.py --check    # exit 1 if it is not what the package says

The package loads its names on first use, from the table `_HOME`, which a type checker cannot follow.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
STUB = ROOT / "lens_emotion" / "__init__.pyi"
HEAD = "# Written by scripts/make_stub.py from the table of lens_emotion/__init__.py: change that, and run it again."


def stub() -> str:
    """The text of the stub, from the package of this checkout."""
    sys.path.insert(0, str(ROOT))
    import lens_emotion as le

    rooms = [f"from lens_emotion import {room} as {room}" for room in sorted([*le._ROOMS, "plots"])]
    names = [f"from lens_emotion.{m} import {n} as {n}" for m, held in sorted(le._HOME.items()) for n in sorted(held)]
    offered = [f"    {name!r},".replace("'", '"') for name in le.__all__]
    return "\n".join([HEAD, "", *rooms, *names, "", "__version__: str", "__all__ = [", *offered, "]", ""])


def main() -> int:
    text = stub()
    if "--check" not in sys.argv[1:]:
        STUB.write_text(text, encoding="utf-8")
        return 0
    if STUB.is_file() and STUB.read_text(encoding="utf-8") == text:
        return 0
    print(f"{STUB.relative_to(ROOT)} is stale; run: python scripts/make_stub.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
