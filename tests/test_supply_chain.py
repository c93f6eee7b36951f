"""What an installation takes in: declared, used, licensed, locked by checksum, and listed in a bill of materials."""

from __future__ import annotations

import ast
import importlib.metadata as md
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))  # no part of the package

import make_sbom

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "constraints.txt").is_file(), reason="needs the checkout")

# imported by name only where it differs from the distribution's
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL"}
UNIMPORTED = {  # of the extras that users install: needed by another package, or the surroundings of a notebook
    "sentencepiece": "tokenizers of judges, through transformers", "kaleido": "figures as files, through plotly",
    "jupyterlab": "the notebook itself", "ipykernel": "the notebook itself",
}  # fmt: skip
FOREIGN = {
    "steering_vectors",
    "pydantic_core",
}  # the second is a part of pydantic; objects of theirs are made where they have it installed: to_steering_vectors
# no licence of these asks that what is built upon them be published; MPL only for changed files of its own
ALLOWED = (
    r"MIT\b", r"MIT-CMU", r"Apache", r"BSD", r"3-Clause BSD", r"0BSD", r"ISC", r"PSF", r"Zlib",
    r"Python Software Foundation",
    r"CC0", r"BSL-1\.0", r"MPL-2\.0", r"Mozilla Public License 2\.0", r"CNRI-Python", r"HPND", r"Unlicense",
    r"LicenseRef-NVIDIA", r"NVIDIA Proprietary", r"Other/Proprietary License",  # CUDA, which torch's Linux build brings
)  # fmt: skip
UNDECLARED = {"cuda-toolkit": "an empty package that names NVIDIA's libraries, each of which declares its own"}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Every node of the package's code, with its file."""
    for path in (ROOT / "lens_emotion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.name, node


def imported() -> set[str]:
    """Top-level names of other packages that any file of the package imports, anywhere in it."""
    found = set()
    for _, node in nodes():
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"lens_emotion"}


def names_of(*extras: str) -> set[str]:
    return {canonicalize_name(one.name) for one in make_sbom.asked(extras)}


def module_of(name: str) -> str:
    return IMPORTED_AS.get(name, name.replace("-", "_"))


USERS = ("gguf", "judges", "play", "ray", "notebooks")


def test_every_dependency_is_imported_and_every_import_declared():
    used = imported()
    assert {n for n in names_of() if module_of(n) not in used} == set()
    assert {n for n in names_of(*USERS) if module_of(n) not in used} == set(UNIMPORTED)
    assert used - {module_of(n) for n in names_of(*USERS)} == FOREIGN


def test_no_code_of_a_repository_runs_and_nothing_is_unpickled():
    """What SECURITY.md says. By default transformers asks at a terminal whether to run a repository's code."""
    calls = [(file, node) for file, node in nodes() if isinstance(node, ast.Call)]
    loads = [(f, c) for f, c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "from_pretrained"]
    refused = {"trust_remote_code": False}
    for file, call in loads:
        told = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        assert told | refused == told, f"{file}:{call.lineno}"
    assert len(loads) >= 5
    words = {ast.unparse(call.func) for _, call in calls}
    assert not {"eval", "exec", "torch.load", "os.system", "subprocess.run"} & words
    imported = [(f, name.name) for f, node in nodes() if isinstance(node, ast.Import) for name in node.names]
    unpickling = {
        str(f).rpartition("/")[2] for f, n in imported if n in ("pickle", "dill", "marshal", "yaml", "shelve")
    }
    assert unpickling == {"beside.py"}  # from a pipe to a process that it began, never from a file
    # this interpreter alone, which renders chat templates apart, and analyses one model beside the next
    assert {str(f).rpartition("/")[2] for f, name in imported if name == "subprocess"} == {"rendering.py", "beside.py"}


def unfit(words: str) -> bool:
    """True where a licence names, with AND or alone, one that is not allowed; of several with OR one will do."""
    parts = (re.split(r"\s+OR\s+", part.strip(" ()")) for part in re.split(r"\s+AND\s+", words))
    return any(not any(re.match(allowed, way.strip(" ()")) for way in part for allowed in ALLOWED) for part in parts)


@pytest.mark.parametrize(
    ("words", "bad"),
    [
        ("MIT", False), ("GPL-3.0-only", True), ("MIT AND LGPL-2.1-or-later", True), ("LGPL-3.0 OR MIT", False),
        ("GNU General Public License v3 (GPLv3)", True), ("MPL-2.0 AND MIT", False), ("AGPL-3.0", True),
        ("Apache Software License AND GNU Affero General Public License v3", True), ("EUPL-1.2", True), ("", True),
    ],
)  # fmt: skip
def test_copyleft_would_be_seen(words, bad):
    assert unfit(words) is bad


def test_the_default_install_holds_no_copyleft_beyond_mpl():
    needs = make_sbom.closure(make_sbom.asked())
    found = {name: make_sbom.licence(name) for name in needs}
    assert len(found) > 40
    assert {name for name, words in found.items() if not words} <= set(UNDECLARED)
    assert {name: words for name, words in found.items() if words and unfit(words)} == {}


def pins(path: Path) -> dict[str, str]:
    """Versions by name."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def test_the_lock_agrees_with_the_constraints_and_holds_a_checksum_for_every_file():
    text, lock, pinned = (
        (ROOT / "requirements.lock").read_text(),
        pins(ROOT / "requirements.lock"),
        pins(ROOT / "constraints.txt"),
    )
    assert {n: v for n, v in lock.items() if pinned.get(n, v) != v} == {}, "python scripts/make_lock.py"
    build = [Requirement(line) for line in make_sbom.PYPROJECT["build-system"]["requires"]]
    for one in [*make_sbom.asked(("play", "judges")), *build]:
        assert one.specifier.contains(lock[canonicalize_name(one.name)]), one
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(lock) and all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text and len(text) < 500_000


def test_the_lock_holds_what_the_packages_here_need():
    """Of what is installed as pinned, nothing that is needed on this platform is missing."""
    lock = pins(ROOT / "requirements.lock")
    needs = make_sbom.closure(make_sbom.asked(("play", "judges")))
    as_locked = [needs[name] for name in needs if lock.get(name) == md.version(name)]
    assert len(as_locked) > 30
    assert set().union(*as_locked) - set(lock) == set()


def test_the_bill_of_materials_has_the_shape_of_cyclonedx():
    bill = make_sbom.bill()
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    refs = [bill["metadata"]["component"]["bom-ref"], *(part["bom-ref"] for part in bill["components"])]
    assert len(set(refs)) == len(refs) > 40
    for part in bill["components"]:
        assert part["type"] == "library" and part["version"] == md.version(part["name"])
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[^@\s]+", part["purl"])
        assert all(entry["license"]["name"] for entry in part.get("licenses", []))
    assert {edge["ref"] for edge in bill["dependencies"]} == set(refs)
    assert {ref for edge in bill["dependencies"] for ref in edge["dependsOn"]} <= set(refs)
    assert bill == make_sbom.bill()
