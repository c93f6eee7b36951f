"""The bill of materials of an installation, as CycloneDX 1.6 in JSON: package, version, licence, what needs what.

    python scripts/make_sbom.py [--extra play ...] > lens-emotion.cdx.json

It reads the metadata of what is installed beside this Python, so that it is made at a release, where the lock has just
been installed. Two runs on one installation give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata as md
import json
import re
import tomllib
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
NAME = PYPROJECT["project"]["name"]
Needs = dict[str, set[str]]  # name -> names of what it needs here


def asked(extras: Iterable[str] = ()) -> list[Requirement]:
    """What pyproject.toml asks for, by default and with extras."""
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines]


def closure(first: Iterable[Requirement]) -> Needs:
    """Everything installed that these need on this platform, and what of it each needs.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    needs: Needs = {}
    todo, seen = list(first), set()
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        for extra in {"", *one.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            lines = map(Requirement, md.requires(name) or ())
            found = [r for r in lines if (extra == "" if r.marker is None else r.marker.evaluate({"extra": extra}))]
            needs.setdefault(name, set()).update(canonicalize_name(r.name) for r in found)
            todo += found
    return needs


def licence(name: str) -> str:
    """What a package declares: the expression, else its classifiers, else the first line of the old field, else ''."""
    meta = md.metadata(name)
    kinds = [c.split("::")[-1].strip() for c in meta.get_all("Classifier") or () if c.startswith("License ::")]
    old = (meta.get("License") or "").strip()
    return meta.get("License-Expression") or " AND ".join(kinds) or old.split("\n")[0].strip()


def bill(extras: Iterable[str] = ()) -> dict[str, Any]:
    """The document."""
    needs = closure(first := asked(extras))
    version = re.search(r'"(.+)"', (Path(__file__).resolve().parents[1] / PYPROJECT["tool"]["hatch"]["version"]["path"])
                        .read_text(encoding="utf-8").split("__version__", 1)[1])  # fmt: skip
    assert version, "no version in version.py"
    own = {"type": "application", "name": NAME, "version": version[1], "bom-ref": f"pkg:pypi/{NAME}@{version[1]}"}
    refs = {name: f"pkg:pypi/{name}@{md.version(name)}" for name in sorted(needs)}
    parts = [_component(name, ref) for name, ref in refs.items()]
    edges = [{"ref": own["bom-ref"], "dependsOn": sorted({refs[canonicalize_name(r.name)] for r in first if _here(r)})}]
    edges += [{"ref": refs[name], "dependsOn": sorted(refs[n] for n in needs[name])} for name in refs]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([own, parts, edges]))
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1,
        "metadata": {"component": {**own, "purl": own["bom-ref"], "licenses": [{"license": {"name": "MIT"}}]}},
        "components": parts, "dependencies": edges,
    }  # fmt: skip


def _here(one: Requirement) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": ""})


def _component(name: str, ref: str) -> dict[str, Any]:
    made = {"type": "library", "name": name, "version": md.version(name), "bom-ref": ref, "purl": ref}
    words = licence(name)
    return {**made, "licenses": [{"license": {"name": words}}]} if words else made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--extra", action="append", default=[], choices=sorted(PYPROJECT["project"]["optional-dependencies"])
    )
    print(json.dumps(bill(parser.parse_args().extra), indent=1))
