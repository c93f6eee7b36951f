"""The list of mistakes (benchmarks/mutants) stays true: places are found, mistakes are Python, tests are there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks import mutants as benchmark  # noqa: E402
from benchmarks.mutants import Kept, Mutant, mutants, table, tried  # noqa: E402


def test_every_mistake_finds_its_place_once_and_is_python():
    wrong = []
    for mutant in mutants():
        changed = mutant.mutated(ROOT)
        if changed is None:
            wrong.append(f"{mutant.part}: {mutant.name}: the old text is not there exactly once")
        else:
            ast.parse(changed, mutant.file)
            assert mutant.old != mutant.new, mutant.name
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


@pytest.fixture
def copy(tmp_path):
    """A package of two functions, one of which is tested."""
    copy = tmp_path / "copy"
    for name, text in (
        ("lens_emotion/__init__.py", ""),
        ("lens_emotion/small.py", "def double(x):\n    return 2 * x\n\n\ndef same(x):\n    return x\n"),
        (
            "tests/test_small.py",
            "from lens_emotion.small import double\n\n\ndef test_it():\n    assert double(2) == 4\n",
        ),
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    return copy


def of(old: str, new: str, **more) -> Mutant:
    return Mutant("small", "lens_emotion/small.py", old, new, ("tests/test_small.py::test_it",), **more)


SEEN, UNSEEN, TWICE = of("2 * x", "3 * x"), of("    return x\n", "    return -x\n"), of("return", "pass")


def test_a_mistake_is_seen_by_a_test_or_not_and_is_gone_afterwards(copy, tmp_path):
    before = (copy / SEEN.file).read_text()
    for mutant, outcome in (
        (SEEN, "seen"),
        (UNSEEN, "unseen"),
        (TWICE, "stale"),
        (of("x", "y", equivalent="so"), "stale"),
    ):
        assert tried(mutant, copy, Kept(tmp_path / "kept"), timeout=120) == outcome
        assert (copy / SEEN.file).read_text() == before
    assert {Kept(tmp_path / "kept")[m.key(copy)] for m in (SEEN, UNSEEN)} == {"seen", "unseen"}


def test_what_has_not_changed_is_not_run_again_and_what_has_is(copy, tmp_path, monkeypatch):
    ran, answers = [], {}

    def run_tests(where, arguments, timeout):
        ran.append(arguments)
        code = answers.get(arguments[0], 0)
        return code, list(arguments) * (code == 1)

    monkeypatch.setattr(benchmark, "run_tests", run_tests)

    def outcome(mutant=SEEN, **codes):
        ran.clear()
        answers.clear()
        answers.update({"-x": codes.get("with_it", 1), "tests/test_small.py::test_it": codes.get("without", 0)})
        return tried(mutant, copy, Kept(tmp_path / "kept"), timeout=3), len(ran)

    assert outcome() == ("seen", 2) and outcome(with_it=0) == ("seen", 0)
    (copy / "tests/test_small.py").write_text("def test_it(): ...\n")
    assert outcome(with_it=0) == ("unseen", 2)
    (copy / SEEN.file).write_text((copy / SEEN.file).read_text() + "\n\nMORE = 1\n")
    assert outcome(with_it=None) == ("timeout", 2)
    (copy / SEEN.file).write_text((copy / SEEN.file).read_text() + "\n\nEVEN = 1\n")
    assert outcome(with_it=2) == ("broken", 2)
    (copy / SEEN.file).write_text((copy / SEEN.file).read_text() + "\n\nLAST = 1\n")
    assert outcome(without=1) == ("no test", 1) and outcome(of("2 * x", "x + x", equivalent="so")) == ("equivalent", 0)


def test_the_table_counts_by_part():
    rows = table([(SEEN, "seen"), (UNSEEN, "unseen"), (Mutant("other", "f", "a", "b"), "stale")]).splitlines()
    assert rows[0] == "| part | seen | unseen | equivalent | stale |"
    assert rows[2:] == ["| small | 1 | 1 | 0 | 0 |", "| other | 0 | 0 | 0 | 1 |", "| in all | 1 | 1 | 0 | 1 |"]
