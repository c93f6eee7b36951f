"""Damaged files through every reader (a small run of benchmarks/fuzz_readers.py), and what shows that the fuzz sees."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the suite is no part of the package

from benchmarks import fuzz_readers
from benchmarks.fuzz_subjects import Reader


def test_300_changed_files_give_a_typed_error_or_a_right_answer():
    tallies = fuzz_readers.run(300, seed=1)
    assert len(tallies) == 15 and sum(t.inputs for t in tallies.values()) == 300
    assert {name: t.failures for name, t in tallies.items() if t.failures} == {}
    assert all(t.inputs == t.errors + t.right and t.slowest < 5 for t in tallies.values())


@pytest.mark.parametrize(
    "name", ["lens_emotion.files.artifacts.check_seal", "lens_emotion.vectors.interchange.check_seal"]
)
def test_the_fuzz_finds_wrong_numbers_where_the_checksum_is_not_looked_at(name, monkeypatch):
    monkeypatch.setattr(name, lambda *args: None)
    assert any(t.failures for t in fuzz_readers.run(300, seed=1).values())


def test_the_fuzz_finds_crashes_and_hangs(tmp_path, monkeypatch):
    def crashing(path):
        return 1 // (path.read_bytes()[0] - ord("a"))

    def hanging(path):
        while path.read_bytes() != b"a":
            pass

    monkeypatch.setattr(fuzz_readers, "LONGEST", 0.05)
    monkeypatch.setattr(fuzz_readers, "BYTES", (lambda rng, good: rng.choice((b"a", b"b")),))
    crashed = fuzz_readers.fuzz(Reader("crashing", b"a", crashing, lambda *_: True), 6, 0, tmp_path)
    hung = fuzz_readers.fuzz(Reader("hanging", b"a", hanging, lambda *_: True), 6, 0, tmp_path)
    assert crashed.failures and "ZeroDivisionError" in crashed.failures[0] and crashed.right
    assert hung.failures and "HangError" in hung.failures[0] and hung.right
