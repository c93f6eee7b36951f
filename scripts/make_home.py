"""Write the repository's address, which stands in pyproject.toml (`Repository`), wherever else it is named.

python scripts/make_home.py [--check]
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"https://[\w.-]+/[\w.-]+/lens[_-]emotion\b")
NAMED_IN = ("README.md", "CITATION.cff", "docs/*.md", "mkdocs.yml")


def home() -> str:
    """The address, as pyproject.toml has it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"])


def stale() -> dict[Path, str]:
    """File -> what it should say, of those that name another address."""
    found = {}
    for path in (p for pattern in NAMED_IN for p in sorted(ROOT.glob(pattern))):
        text = path.read_text(encoding="utf-8")
        if (right := ADDRESS.sub(home(), text)) != text:
            found[path] = right
    return found


def main() -> int:
    if not ADDRESS.fullmatch(home()):
        print(f"{home()} is no address such as https://github.com/NAME/lens_emotion; mend pyproject.toml")
        return 1
    for path, text in (found := stale()).items():
        print(f"{path.relative_to(ROOT)}: another address than pyproject.toml's")
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    return int(bool(found) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
