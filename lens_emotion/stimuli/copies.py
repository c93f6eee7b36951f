"""Copies: texts that are the same, or nearly so, as another one. A decoder that has read one has seen the other.

Two texts are copies if they are equal, or if the smaller one shares with the other (containment: Broder, "On the
resemblance and containment of documents", 1997)

- 42% of its runs of two words, ten at least, by weight: what many texts say alike tells less, down to a third. Copies
  with every fourth word, or all pronouns and articles, replaced are above it; different texts of the natural passages
  share less than ten runs, the nearest two of 1,512 of the tiny models' templated world 40%, of 480 in Chinese 34%;
- or 35% of its runs of eight words, unless more than half of the texts hold them. Texts with one half in common share
  44%; different ones of the passages none, of the world at most 30%.

Case and punctuation do not count, nor do the words with which all of ten texts or more begin and end, if each has ten
more; a frame that not all share does not count up to about two thirds of a text. Copies of one text that are most of a
set are found with every eighth word replaced. In scripts without spaces every character counts as a word, with the
next one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import chain, takewhile

import numpy as np
import regex
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

RUN, SHARE = 2, 0.42  # words; weighted share of the smaller text
PASSAGE, PART = 8, 0.35  # words; share of the smaller text
LEAST = 10  # runs: two short sentences of one pattern are no copies
COMMON = 1 / 3  # weight of a run that all texts hold; one that a single text holds weighs 1
FRAME = 0.5  # share of the texts: a passage that more than these hold is a frame
FEW = 50  # texts: in a smaller set a run that several hold is no more common than here
MANY = 10  # texts that begin or end alike: a frame
PAIRS = 500_000_000  # comparisons that are affordable (seconds): runs that all texts share are looked at last
ROWS = 256  # texts compared at a time, which bounds memory
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_WORD = regex.compile(_UNSPACED.pattern + r"|[\p{L}\p{M}\p{N}'’]+")
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
    words = [words_of(t) or (t.strip() or f"\0{i}",) for i, t in enumerate(texts)]
    index = {w: k for k, w in enumerate(dict.fromkeys(words))}
    alike = _near(list(index)) if len(index) > 1 else np.zeros((2, 0), dtype=np.int64)
    return [index[w] for w in words], alike


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case; pairs of characters in scripts without spaces."""
    found = _WORD.findall(text.casefold())
    if not _UNSPACED.search(text):
        return tuple(found)
    pairs = zip(found, [*found[1:], " "], strict=True)  # one character is less than a word
    return tuple(a + b if _UNSPACED.match(a) and _UNSPACED.match(b) else a for a, b in pairs)


def _near(words: list[tuple[str, ...]]) -> Pairs:
    """Pairs of different texts that share enough of their short runs or of their long ones."""
    words, n = _unframed(words), max(FEW, len(words))
    text, run, holders = _runs(words, RUN)
    rare = np.maximum(COMMON, np.log1p(n / holders) / np.log1p(n))
    short = _sharing(len(words), text, run, rare, SHARE, LEAST)
    text, run, holders = _runs(words, PASSAGE)
    long = _sharing(len(words), text, run, 1.0 * (holders <= max(LEAST, FRAME * n)), PART, LEAST - PASSAGE + RUN)
    return np.unique(np.concatenate([short, long], axis=1), axis=1)


def _sharing(
    n: int,
    text: Int[np.ndarray, " r"],
    run: Int[np.ndarray, " r"],
    weight: Float[np.ndarray, " n_runs"],
    share: float,
    least: int,
) -> Pairs:
    """Pairs of n texts that share `least` runs and `share` of the weight of the smaller one, by an index from runs."""
    holders = np.bincount(run).astype(np.int64)
    order = np.argsort(holders, kind="stable")
    used = weight > 0
    used[order[np.cumsum(np.where(holders > 1, holders, 0)[order] ** 2) > PAIRS]] = False
    size = np.bincount(text, (weight * used)[run], n)
    held = (used & (holders > 1))[run]
    text, run = text[held], run[held]
    rows = csr_array((np.ones(len(run), np.complex64), (text, run)), shape=(n, len(holders)))
    back = csr_array(((1 + 1j * weight[run]).astype(np.complex64), (run, text)), shape=(len(holders), n))
    found = [np.zeros((2, 0), dtype=np.int64)]
    for start in range(0, n, ROWS):
        shared = (rows[start : start + ROWS] @ back).tocoo()  # number + i weight
        i, j = shared.row + start, shared.col
        enough: Bool[np.ndarray, " p"] = (i < j) & (shared.data.real >= least)
        enough &= shared.data.imag >= share * np.minimum(size[i], size[j])
        found.append(np.stack([i[enough], j[enough]]).astype(np.int64))
    return np.concatenate(found, axis=1)


def _unframed(words: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The texts without the words with which all begin and end, if they are many and each says something between."""
    shortest = min(words, key=len)
    ends = []
    for step in (1, -1):
        alike = (all(w[::step][k] == word for w in words) for k, word in enumerate(shortest[::step]))
        ends.append(sum(1 for _ in takewhile(bool, alike)))
    if len(words) < MANY or sum(ends) + LEAST > len(shortest):
        return words
    return [w[ends[0] : len(w) - ends[1]] for w in words]


def _runs(
    words: list[tuple[str, ...]], n: int
) -> tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"], Int[np.ndarray, " n_runs"]]:
    """Text and number of every run of n words, each once per text, and its texts; a shorter text is one run."""
    padded = [w if len(w) >= n else (*w, *("",) * (n - len(w))) for w in words]
    index = {w: k for k, w in enumerate(dict.fromkeys(chain.from_iterable(padded)))}
    flat = np.array([index[w] for w in chain.from_iterable(padded)], dtype=np.int64)
    length = np.array([len(w) for w in padded])
    text = np.repeat(np.arange(len(words)), length)
    run = flat[: len(flat) - n + 1]
    for k in range(1, n):  # numbers of longer and longer runs: nothing is hashed, so nothing collides
        run = np.unique(run * len(index) + flat[k : len(flat) - n + 1 + k], return_inverse=True)[1]
    inside = text[: len(run)] == text[n - 1 :]
    _, number = np.unique(run[inside], return_inverse=True)
    both = np.unique(text[: len(run)][inside] * (int(number.max()) + 1) + number)
    text, run = both // (int(number.max()) + 1), both % (int(number.max()) + 1)
    return text, run, np.bincount(run)
