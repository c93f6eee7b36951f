"""Records of a journal: found again in the session that wrote them, and what counts as one."""

from __future__ import annotations

import pytest
import torch

from lens_emotion.files.journal import Journal, Record, are_ids, is_count


@pytest.mark.parametrize("torn", [b"", b"\n", b'{"key": "cut', b"\xff\xfe"])
def test_a_record_behind_a_torn_line_is_read_back_in_the_same_session(torn, tmp_path):
    path = tmp_path / "a.journal"
    Journal.open(path).add("first", Record({"n": 1}))
    path.write_bytes(path.read_bytes() + torn)
    journal = Journal.open(path)
    for k in range(2):
        journal.add(f"k{k}", Record({"n": k}, {"x": torch.full((2,), float(k))}))
    for held in (journal, Journal.open(path)):
        assert held.recall("first").values["n"] == 1
        for k in range(2):
            assert held.recall(f"k{k}").values["n"] == k and float(held.recall(f"k{k}").tensors["x"][1]) == k


def test_counts_and_ids_lie_from_0_to_what_there_is_exclusive():
    assert [is_count(n, 3) for n in (-1, 0, 2, 3, 4, True, 1.0, "1", None)] == [False, True, True, *[False] * 6]
    assert is_count(10**18)
    for rows, fits in (
        ([[0, 9], []], True), ([[0, 10], []], False), ([[-1], []], False), ([[1, 2, 3], [1]], True),
        ([[1, 2, 3, 4], [1]], False), ([[1]], False), ([[1], [1], [1]], False), ([1, 2], False), ("ab", False),
    ):  # fmt: skip
        assert are_ids(rows, 2, 3, 10) == fits, rows
