"""The list of mistakes (benchmarks/mutants) stays true: places are found, mistakes are Python, tests are there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.mutants import Kept, Mutant, mutants, table, tried  # noqa: E402


def test_every_mistake_finds_its_place_once_and_is_another_program():
    wrong = []
    for mutant in mutants():
        changed = mutant.mutated(ROOT)
        if changed is None:
            wrong.append(f"{mutant.part}: {mutant.name}: the old text is not there exactly once")
            continue
        before = ast.dump(ast.parse((ROOT / mutant.file).read_text(encoding="utf-8")))
        if ast.dump(ast.parse(changed)) == before:
            wrong.append(f"{mutant.part}: {mutant.name}: changes nothing")
    assert not wrong, "\n".join(wrong)


def test_every_test_that_a_mistake_names_is_there():
    names: dict[str, set[str]] = {}
    wrong = []
    for mutant in mutants():
        assert mutant.tests or mutant.equivalent, mutant.name
        for test in mutant.tests:
            file, _, name = test.partition("::")
            if file not in names:
                text = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else ""
                names[file] = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
            if not names[file] or (name and name not in names[file]):
                wrong.append(test)
    assert not wrong, wrong


def test_there_are_many_mistakes_of_every_part_and_none_twice():
    found = mutants()
    assert len(found) >= 150 and len({m.part for m in found}) >= 8
    assert len({(m.file, m.old, m.new) for m in found}) == len(found)


def _planted(tmp_path: Path, test: str = "assert double(2) == 4") -> Path:
    copy = tmp_path / "copy"
    (copy / "lens_emotion").mkdir(parents=True)
    (copy / "tests").mkdir()
    (copy / "lens_emotion" / "__init__.py").write_text("")
    (copy / "lens_emotion" / "small.py").write_text(
        "def double(x):\n    return 2 * x\n\n\ndef same(x):\n    return x\n"
    )
    (copy / "tests" / "test_small.py").write_text(
        f"from lens_emotion.small import double\n\n\ndef test_double():\n    {test}\n"
    )
    return copy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "test", "outcome"),
    [
        ("2 * x", "3 * x", "assert double(2) == 4", "seen"),
        ("    return x\n", "    return -x\n", "assert double(2) == 4", "unseen"),
        ("return", "pass", "assert double(2) == 4", "stale"),  # found twice
        ("2 * x", "3 * x", "assert double(2) == 5", "no test"),  # fails without the mistake
        ("2 * x", "2 * ", "assert double(2) == 4", "broken"),
        ("2 * x", "[x for _ in iter(int, 1)]", "assert double(2) == 4", "timeout"),
    ],
)
def test_what_comes_of_a_mistake(tmp_path, old, new, test, outcome):
    copy = _planted(tmp_path, test)
    mutant = Mutant("small", "lens_emotion/small.py", old, new, ("tests/test_small.py::test_double",))
    before = (copy / mutant.file).read_text()
    kept = Kept(tmp_path / "kept.jsonl")
    assert tried(mutant, copy, kept, timeout=3) == outcome
    assert (copy / mutant.file).read_text() == before
    if outcome in ("seen", "unseen", "timeout"):
        again = Kept(tmp_path / "kept.jsonl")
        assert again[mutant.key(copy)] == outcome
        assert outcome.join("||").replace("|", "| ")[1:-1].strip() in table([(mutant, outcome)])
