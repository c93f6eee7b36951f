"""The lock: every file that `pip install lens-emotion[play,judges]` takes, by its checksum; made by uv.

    python scripts/make_lock.py            # requirements.lock
    python scripts/make_lock.py WHEEL ...  # requirements-cpu.lock

Versions are those of constraints.txt, for any platform and Python 3.11 or later. On Linux that is PyTorch's build for
GPUs, with the CUDA libraries that it needs. Its builds for CPUs alone are on an index of its own: given such wheels,
the lock holds their checksums instead, and no CUDA.

Needs `uv` on the path. tests/test_supply_chain.py compares the lock with constraints.txt and pyproject.toml.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("play", "judges")
CUDA = re.compile(r"(nvidia|cuda|triton)\b")
HEAD = "# Made by scripts/make_lock.py of pyproject.toml and constraints.txt: change those, and make it anew.\n"


def main() -> None:
    found, wheels = blocks(resolved()), [Path(word) for word in sys.argv[1:]]
    if wheels:
        found = {name: text for name, text in found.items() if not CUDA.match(name)}
        found["torch"] = only(found["torch"].split()[0], wheels)
    path = ROOT / ("requirements-cpu.lock" if wheels else "requirements.lock")
    path.write_text(HEAD + "".join(found.values()), encoding="utf-8")


def resolved() -> str:
    """What uv finds for the package, its extras, and what builds it."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    command = [
        "uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header",
        "--quiet", "--no-annotate", "--constraint", "constraints.txt", *extras, "pyproject.toml", "-",
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=ROOT, input="\n".join(build), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def blocks(text: str) -> dict[str, str]:
    """Requirement and checksums by the name of the package."""
    parts = re.findall(r"^[a-z0-9].*\n(?:    .*\n)*", text, re.MULTILINE)
    return {re.split(r"[=\[ ]", part)[0]: part for part in parts}


def only(pinned: str, wheels: list[Path]) -> str:
    """The requirement that takes these wheels and no other."""
    for wheel in wheels:
        if not f"{wheel.name}+".replace("-", "==", 1).startswith((f"{pinned}+", f"{pinned}-")):
            sys.exit(f"{wheel.name} is no build of {pinned}, which is locked")
    sums = (f"    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" for wheel in wheels)
    return " \\\n".join([pinned, *sums]) + "\n"


if __name__ == "__main__":
    main()
