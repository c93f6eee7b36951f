"""Copies: texts that are the same, or nearly so, as another one. A decoder that has read one has seen the other.

Two texts are copies if they are equal, or if the shorter one shares at least half of its runs of five words, and eight
of them, with the other (containment: Broder, "On the resemblance and containment of documents", 1997). In scripts
without spaces every character counts as a word; case and punctuation do not count, nor does a frame that most share.
Different texts of the natural passages share 2% of their runs, those of the tiny models' templated world 31%.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
import regex
from jaxtyping import Bool, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

RUN = 5  # words
SHARE = 0.5
LEAST = 8  # runs: two short sentences of one pattern are no copies
FRAME = 0.5  # share of the texts
PAIRS = 500_000_000  # comparisons that are affordable (seconds): runs that all texts share are looked at last
ROWS = 256  # texts compared at a time, which bounds memory
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}'’]+")
Pairs = Int[np.ndarray, "2 n_pairs"]


def copies(texts: Sequence[str], labels: Sequence[Hashable] | None = None) -> Int[np.ndarray, " n_texts"]:
    """A number for each text that all its copies share, and copies of copies; numbered as they first appear.

    Args:
        texts: an empty text is unknown, and a copy of nothing.
        labels: if given, only texts of one label are copies of each other.
    """
    key, alike = _alike(tuple(texts))
    given = [None] * len(key) if labels is None else list(labels)
    nodes: dict[tuple[int, Hashable], int] = {}
    held: dict[int, list[Hashable]] = {}  # labels of each different text
    for k, label in zip(key, given, strict=True):
        if (k, label) not in nodes:
            nodes[k, label] = len(nodes)
            held.setdefault(k, []).append(label)
    links = [(nodes[i, x], nodes[j, x]) for i, j in alike.T.tolist() for x in held[i] if (j, x) in nodes]
    found = components(len(nodes), *np.array(links, dtype=np.int64).reshape(-1, 2).T)
    return found[[nodes[of] for of in zip(key, given, strict=True)]] if len(key) else found


def components(n: int, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]) -> Int[np.ndarray, " n"]:
    """Numbers of the connected components of n things, some pairs of which are linked, as they first appear."""
    links = csr_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    found = connected_components(links, directed=False)[1]
    _, at, code = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(at))[code]


def copies_note(texts: Sequence[str], labels: Sequence[Hashable]) -> str:
    """How many texts are copies, and how many of another label (emotion and topic); empty if none is."""
    group = copies(texts)
    size = np.bincount(group, minlength=1)
    kinds: dict[int, set[Hashable]] = {}
    for g, label in zip(group.tolist(), labels, strict=True):
        kinds.setdefault(g, set()).add(label)
    n, apart = int((size[group] > 1).sum()), sum(len(kinds[g]) > 1 for g in group.tolist())
    if n == 0:
        return ""
    return (
        f"{n} of {len(texts)} texts are the same as another or nearly so, {apart} of them with copies under another "
        "topic or emotion"
    )


@lru_cache(maxsize=8)
def _alike(texts: tuple[str, ...]) -> tuple[list[int], Pairs]:
    """A number for each text, the same for equal ones, and which of these numbers are nearly so."""
    words = [tuple(_WORD.findall(t.casefold())) or (t.strip() or f"\0{i}",) for i, t in enumerate(texts)]
    index = {w: k for k, w in enumerate(dict.fromkeys(words))}
    alike = _near(list(index)) if len(index) > 1 else np.zeros((2, 0), dtype=np.int64)
    return [index[w] for w in words], alike


def _near(words: list[tuple[str, ...]]) -> Pairs:
    """Pairs of different texts that share enough of their runs, by an index from runs to texts."""
    text, run = _runs(words)
    holders = np.bincount(run).astype(np.int64)
    order = np.argsort(holders, kind="stable")
    used = holders <= max(LEAST, FRAME * len(words))
    used[order[np.cumsum(holders[order] ** 2) > PAIRS]] = False
    held = used[run]
    kept = csr_array((np.ones(int(held.sum()), np.int32), (text[held], run[held])), shape=(len(words), len(holders)))
    size = np.asarray(kept.sum(1)).ravel()
    back, found = csr_array(kept[:, holders > 1].T), [np.zeros((2, 0), dtype=np.int64)]
    rows = csr_array(back.T)
    for start in range(0, len(words), ROWS):
        shared = (rows[start : start + ROWS] @ back).tocoo()
        i, j = shared.row + start, shared.col
        least = np.maximum(LEAST, SHARE * np.minimum(size[i], size[j]))
        enough: Bool[np.ndarray, " p"] = (i < j) & (shared.data >= least)
        found.append(np.stack([i[enough], j[enough]]).astype(np.int64))
    return np.concatenate(found, axis=1)


def _runs(words: list[tuple[str, ...]]) -> tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"]]:
    """Text and number of every run, each once per text; a text shorter than a run is one run."""
    padded = [w if len(w) >= RUN else (*w, *("",) * (RUN - len(w))) for w in words]
    index = {w: k for k, w in enumerate(dict.fromkeys(chain.from_iterable(padded)))}
    flat = np.array([index[w] for w in chain.from_iterable(padded)], dtype=np.int64)
    length = np.array([len(w) for w in padded])
    text = np.repeat(np.arange(len(words)), length)
    run = flat[: len(flat) - RUN + 1]
    for k in range(1, RUN):  # numbers of longer and longer runs: nothing is hashed, so nothing collides
        run = np.unique(run * len(index) + flat[k : len(flat) - RUN + 1 + k], return_inverse=True)[1]
    inside = text[: len(run)] == text[RUN - 1 :]
    _, number = np.unique(run[inside], return_inverse=True)
    both = np.unique(text[: len(run)][inside] * (int(number.max()) + 1) + number)
    return both // (int(number.max()) + 1), both % (int(number.max()) + 1)
