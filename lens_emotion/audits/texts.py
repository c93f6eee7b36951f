"""What texts hide: words counted where no spaces are, loops that pass for text, copies, instructions read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import regex
from scipy.stats import binomtest

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked
from lens_emotion.audits.subject import Arm, Subject, Table
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.presets.protocol import by_rule, units
from lens_emotion.stats.design import Design, grams, tied
from lens_emotion.stats.gram import Labellings, accuracies, fold_gram
from lens_emotion.steering.measures import loop_share
from lens_emotion.stimuli.copies import copies
from lens_emotion.stimuli.lexicon import UNSPACED, any_word

LOOPS = 0.5  # share of a text that is one loop, from which it is one
LEAST = 8  # words or characters of a text that can loop
CEILING = 3.0  # of the perplexity ratio, where a table says nothing of its own
RARE, ALPHA = 0.05, 0.05  # share of loops that is nobody's fault; level of the exact binomial test against it
NAMED = 0.1  # share of texts, from which it is said that they name their emotion
GAIN = 0.05  # of accuracy, from which an instruction is said to be read back
_BROKEN = ("explo", "incoheren", "broken", "garbage", "degenerate", "gibberish")
_LOOPED = ("repet", "loop", "collaps")
_FINE = ("surgical", "ok", "coherent", "fine", "success", "clean", "normal", "valid", "good", "effective", "inert")


def unspaced(text: str) -> bool:
    """Whether most letters are of a script that sets no spaces between words."""
    letters = regex.findall(r"\p{L}", text)
    return bool(letters) and 2 * len(UNSPACED.findall(text)) > len(letters)


def whitespace(subject: Subject) -> Iterator[Reply]:
    """Regimes or lengths from words between spaces, in scripts that set none."""
    for table in (t for t in subject.tables if t.has("text")):
        yield _whitespace_of(table)


def _whitespace_of(table: Table) -> Reply:
    frame = table.frame[table.frame["text"].notna()]
    texts = [str(t) for t in frame["text"]]
    where = np.array([unspaced(t) for t in texts])
    if not where.any():
        return Unasked(f"{table.name}: none of {len(texts)} texts is in a script without spaces")
    mine = [t for t, w in zip(texts, where, strict=True) if w]
    spaced, counted = ([by_rule(x) for x in side] for side in ([t.split() for t in mine], [units(t) for t in mine]))
    wrong = np.array([a != b for a, b in zip(spaced, counted, strict=True)])
    of = f"{len(mine)} of {len(texts)} texts are in a script without spaces"
    if table.on_tokens:
        return Seen(f"{table.name}: {of}; they are counted on tokens ({int(wrong.sum())} would be misjudged by spaces)")
    here = frame[where]
    if "words" in here and (n := _words_by_spaces(here["words"].to_numpy(float), mine)):
        what = f"{of}, and the number of words of {n} of them is that of their spaces"
        ratio = float(np.median([len(units(t)) / max(len(t.split()), 1) for t in mine]))
        return Fault(MAJOR, what, table.name, ratio, "times as many characters as 'words' in these texts")
    if not wrong.any():
        return Seen(f"{table.name}: {of}; words by spaces and characters give them the same regime")
    share = 100 * float(wrong.sum()) / len(texts)
    if "regime" in here:
        said = [_kind(x) for x in here["regime"]]
        bad = [w and s == a for w, s, a in zip(wrong, said, spaced, strict=True)]
        if sum(bad) < max(1, 0.9 * wrong.sum()) or _explained(here[wrong]):
            return Seen(f"{table.name}: {of}; their regimes are not those of words between spaces")
        first = spaced[int(np.argmax(bad))]
        what = f"{of}, and {sum(bad)} are called what their spaces say ('{first}'), not what their characters say"
        return Fault(MAJOR, what, table.name, 100 * sum(bad) / len(texts), "% of the texts change their regime")
    what = f"{of}: by words between spaces {int(wrong.sum())} would be misjudged"
    return Fault(MINOR, what, table.name, share, "% of the texts would change their regime")


def _words_by_spaces(said: np.ndarray, texts: Sequence[str]) -> int:
    """How many numbers of words are those of spaces, where these are all that such a text is short of."""
    hits = [bool(n == len(t.split()) and len(units(t)) > 2 * n) for n, t in zip(said, texts, strict=True)]
    return sum(hits) if sum(hits) >= 0.9 * len(texts) else 0


def _kind(said: object) -> str:
    """A table's own word for a regime as one of the three; empty if it is none."""
    words = str(said).casefold()
    kinds = {"explosive": _BROKEN, "repetitive": _LOOPED, "surgical": _FINE}
    return next((kind for kind, marks in kinds.items() if any(m in words for m in marks)), "")


def _explained(rows: pd.DataFrame) -> bool:
    """Whether their perplexity alone would make these texts explosive."""
    return "perplexity" in rows and bool((rows["perplexity"] > 2 * CEILING).all())


def loops(subject: Subject) -> Iterator[Reply]:
    """Texts that repeat themselves, and pass since a loop is likely: counted as successes, or in a surgical regime."""
    for table in (t for t in subject.tables if t.has("text")):
        yield from _loops_of(table)


def _loops_of(table: Table) -> Iterator[Reply]:
    frame = table.frame[table.frame["text"].notna()].reset_index(drop=True)
    loop = _looping(frame)
    plain = _unsteered(frame)
    habit = float(loop[plain].mean()) if plain.any() else 0.0
    steered = ~plain & ~_control(frame)
    passing = _passing(frame, table)
    if passing is None:
        yield Unasked(f"{table.name} has texts, but no regime, success or perplexity that could pass a loop")
        return
    passed = frame.index[steered & passing]
    if not len(passed):
        yield Unasked(f"{table.name}: no steered text passes, so that none could be a loop")
        return
    dose = frame["dose"].loc[passed] if "dose" in frame else pd.Series("", index=passed)
    cells = pd.Series(loop[passed], index=passed).groupby(dose, dropna=False).agg(["sum", "size"])
    p = [binomtest(int(k), int(n), max(habit, RARE), alternative="greater").pvalue for k, n in cells.to_numpy()]
    bad = cells[np.array(p) * len(cells) <= ALPHA]
    k, n = map(int, (bad if len(bad) else cells).sum())
    beside = f"; of unsteered texts {100 * habit:.0f}%" if plain.any() else ""
    said = f"{k} of {n} steered texts that pass are loops (over half of the text){beside}"
    if not len(bad):
        yield Seen(f"{table.name}: {said}")
        return
    at = f", dose {', '.join(f'{d:g}' for d in bad.index)}" if "dose" in frame else ""
    severity = CRITICAL if k / n >= LOOPS else MAJOR
    yield Fault(
        severity, said, f"{table.name}{at}", 100 * (k / n - habit), "% of what passes there are loops beyond that"
    )


def _looping(frame: pd.DataFrame) -> np.ndarray:
    """Which texts loop: as measured on tokens where that is there, else on words and characters."""
    if "loop_share" in frame and frame["loop_share"].notna().any():
        return (frame["loop_share"] >= LOOPS).to_numpy()
    return np.array([_loops(str(t)) for t in frame["text"]])


def _loops(text: str) -> bool:
    words = units(text)
    index = {w: i for i, w in enumerate(dict.fromkeys(words))}
    return len(words) >= LEAST and loop_share([index[w] for w in words]) >= LOOPS


def _said(frame: pd.DataFrame) -> pd.Series:
    return frame["condition"].astype(str).str.casefold() if "condition" in frame else pd.Series("", index=frame.index)


def _unsteered(frame: pd.DataFrame) -> np.ndarray:
    none = frame["dose"].eq(0).to_numpy() if "dose" in frame else np.zeros(len(frame), dtype=bool)
    return none | _said(frame).str.contains("unsteered|baseline|no steering").to_numpy()


def _control(frame: pd.DataFrame) -> np.ndarray:
    return _said(frame).str.contains("random|other|control|null").to_numpy()


def _passing(frame: pd.DataFrame, table: Table) -> np.ndarray | None:
    """Which texts are taken for good ones: by regime, else by success, else by a ceiling of perplexity."""
    if "regime" in frame and (kinds := frame["regime"].map(_kind)).ne("").any():
        fine = kinds.eq("surgical").to_numpy() & ~frame["regime"].astype(str).str.contains("inert").to_numpy()
        return fine
    if "success" in frame:
        return frame["success"].map(lambda x: str(x).casefold() in ("true", "1", "1.0", "yes")).to_numpy()
    if table.has("perplexity"):
        return (frame["perplexity"] <= CEILING).to_numpy()
    return None


def held_out_copies(subject: Subject) -> Iterator[Reply]:
    """Copies of one text in training and in test folds."""
    for arm in subject.arms:
        yield _copies_of(arm, subject.is_run)
    for table in (t for t in subject.tables if t.has("text") and not t.on_tokens):
        column = next((c for c in ("fold", "topic") if table.has(c)), None)
        if column is None:
            yield Unasked(f"{table.name} has texts, but neither folds nor topics")
            continue
        texts, fold = [str(t) for t in table.frame["text"]], table.frame[column].astype(str).to_numpy()
        if len(set(fold)) < 2:
            yield Unasked(f"{table.name}: one {column} only")
            continue
        yield _across(texts, fold, table.name, column)


def _across(texts: list[str], fold: np.ndarray, where: str, column: str) -> Reply:
    apart = _apart(copies(texts), fold)
    if not apart.any():
        return Seen(f"{where}: none of {len(texts)} texts has a copy in another {column}")
    what = f"{int(apart.sum())} of {len(texts)} texts are the same as one in another {column}, or nearly so"
    severity = CRITICAL if column == "fold" else MAJOR
    return Fault(severity, what, where, 100 * float(apart.mean()), "% of what is held out was also learnt")


def _apart(group: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Texts with a copy in another fold."""
    kinds = pd.Series(fold).groupby(group).nunique()
    return kinds.reindex(group).to_numpy() > 1


def _copies_of(arm: Arm, in_run: bool) -> Reply:
    acts, design = arm.acts.emotional, arm.design
    if isinstance(design, str):
        return Unasked(f"{arm.name}: {design}")
    apart = _apart(copies([r.text for r in acts.records]), acts.topic)
    share = 100 * float(apart.mean())
    if tied(design.copies):
        what = f"{design.copies}"
        return Fault(MAJOR if in_run else CRITICAL, what, arm.name, share, "% of the texts have copies on other topics")
    if not apart.any():
        return Seen(f"{arm.name}: none of {len(acts)} texts has a copy on another topic")
    if in_run:
        return Seen(
            f"{arm.name}: {int(apart.sum())} of {len(acts)} texts have copies on other topics, held out together"
        )
    naive, kept = _accuracy(acts, replace(design, home=design.topic)), _accuracy(acts, design)
    what = (
        f"{int(apart.sum())} of {len(acts)} texts are copies of texts on other topics: held-out accuracy is "
        f"{naive:.2f} where folds are topics, and {kept:.2f} where copies share a fold"
    )
    return Fault(MAJOR if naive - kept > GAIN else MINOR, what, arm.name, naive - kept, "of accuracy is copies")


def _accuracy(acts: PooledActivations, design: Design) -> float:
    """Best accuracy over layers, nearest centroid on centred cosine."""
    block = Labellings(design, design.label[None])
    return max(float(accuracies(fold_gram(design, gram), block)[0]) for gram in grams(acts.values))


def instruction(subject: Subject) -> Iterator[Reply]:
    """States of the model's own stories that hold the instruction, which names the emotion; texts that name it."""
    told: list[Arm] = []
    for arm in subject.arms:
        if "conditioned" in arm.acts.header.variant:
            yield _read_back(arm, [a for a in subject.arms if a.model == arm.model], subject.is_run)
        elif arm.acts.header.method != "generation":
            continue
        if not any(a.model == arm.model and _alike(a, arm) for a in told):  # one story is not counted twice
            told.append(arm)
            yield _names_itself([r.text for r in arm.acts.emotional.records], arm.acts.emotional.emotion, arm.name)
    for table in subject.tables:
        if table.has("prompt", "emotion") and not table.on_tokens:
            yield _named_in_prompts(table)


def _read_back(arm: Arm, beside: Sequence[Arm], in_run: bool) -> Reply:
    """Accuracy with the instruction in front against that of the bare story."""
    bare = next((a for a in beside if "reread" in a.acts.header.variant and _alike(a, arm)), None)
    if bare is None:
        what = "the states hold the instruction, which names the emotion, and no bare reading of the stories is there"
        top = _best(arm)
        if top is None:
            return Unasked(f"{arm.name}: {what}; its accuracy could not be measured")
        above = top - 1 / len(arm.acts.emotions)
        return Fault(
            MINOR if in_run else MAJOR, what, arm.name, above, "of accuracy above chance may be the instruction"
        )
    with_it, without = _best(arm), _best(bare)
    if with_it is None or without is None:
        return Unasked(f"{arm.name}: too few topics to measure its accuracy")
    if with_it - without < GAIN:
        return Seen(f"{arm.name}: accuracy {with_it:.2f} with the instruction, {without:.2f} of the bare stories")
    what = (
        f"held-out accuracy is {with_it:.2f} with the instruction in front, and {without:.2f} of the same stories bare"
    )
    return Fault(MINOR if in_run else MAJOR, what, arm.name, with_it - without, "of accuracy is the instruction")


def _alike(a: Arm, b: Arm) -> bool:
    """Whether two readings are of the same texts."""
    return {r.text for r in a.acts.records} == {r.text for r in b.acts.records}


def _best(arm: Arm) -> float | None:
    if arm.known is not None:
        return float(arm.known["accuracy"].max())
    return None if isinstance(arm.design, str) else _accuracy(arm.acts.emotional, arm.design)


def _names_itself(texts: Sequence[str], emotions: Sequence[str] | np.ndarray, where: str) -> Reply:
    named = [any_word([str(e)]).search(t.casefold()) is not None for t, e in zip(texts, emotions, strict=True)]
    k, n = sum(named), len(named)
    if not n:
        return Unasked(f"{where}: no texts of an emotion")
    if k / n < NAMED:
        return Seen(f"{where}: {k} of {n} stories name their emotion")
    return Fault(
        MINOR, f"{k} of {n} stories name their emotion", where, 100 * k / n, "% of the stories can be told by a word"
    )


def _named_in_prompts(table: Table) -> Reply:
    frame = table.frame.dropna(subset=["prompt", "emotion"])
    named = [
        any_word([str(e)]).search(str(p).casefold()) is not None
        for p, e in zip(frame["prompt"], frame["emotion"], strict=True)
    ]
    k, n = sum(named), len(named)
    if not k:
        return Seen(f"{table.name}: none of {n} prompts names its emotion")
    what = f"{k} of {n} prompts name the emotion that is looked for behind them"
    return Fault(MAJOR, what, table.name, 100 * k / n, "% of the rows may be the instruction")
