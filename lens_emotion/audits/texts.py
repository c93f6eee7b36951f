"""What texts hide: words counted where no spaces are, loops that pass for text, copies, instructions read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import regex
from jaxtyping import Bool
from scipy.stats import binomtest, fisher_exact

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked
from lens_emotion.audits.subject import Arm, Subject, Table
from lens_emotion.audits.wording import (
    is_control,
    is_missing,
    is_refusal,
    is_score,
    listed,
    nameable,
    names_emotion,
    regime_kind,
    unsteered,
    verdict,
)
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.presets.protocol import by_rule, units
from lens_emotion.stats.design import Design, grams, tied
from lens_emotion.stats.gram import Labellings, accuracies, fold_gram
from lens_emotion.steering.measures import loop_share
from lens_emotion.stimuli.copies import copies
from lens_emotion.stimuli.emotions import main_script
from lens_emotion.stimuli.lexicon import UNSPACED

LOOPS = 0.5  # share of a text that is one loop, from which it is one
LEAST = 8  # words or characters of a text that can loop
CEILING = 3.0  # of the perplexity ratio, where a table says nothing of its own
RARE, ALPHA = 0.05, 0.05  # share of loops that is nobody's fault; level of the exact tests
NAMED = 0.1  # share of texts, from which it is said that they name their emotion
OF_ONE, SEVERAL = 0.5, 3  # share and number of the prompts of one emotion that name it, from which that is said
GAIN = 0.05  # of accuracy, from which an instruction is said to be read back
NEARLY, HALF = 0.9, 0.5  # shares of texts called what their spaces say: by rule; as like as not
SPLITS = ("model", "method", "condition", "layer")  # columns whose values each list the texts anew
STEERED = ("dose", "condition", "regime", "success", "perplexity", "perplexity_ratio", "loop_share")


def unspaced(text: str) -> bool:
    """Whether most letters are of a script that sets no spaces between words."""
    letters = regex.findall(r"\p{L}", text)
    return bool(letters) and 2 * len(UNSPACED.findall(text)) > len(letters)


def whitespace(subject: Subject) -> Iterator[Reply]:
    """Regimes or lengths from words between spaces, in scripts that set none."""
    for table in (t for t in subject.tables if t.has("text")):
        yield _whitespace_of(table)


def _whitespace_of(table: Table) -> Reply:
    frame = table.frame[table.frame["text"].notna()].reset_index(drop=True)
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
    if "regime" in here and here["regime"].notna().any():
        if not here["regime"][wrong].map(regime_kind).ne("").any():
            return Unasked(f"{table.name}: {of}, whose regimes are in words that are not understood")
        called = [regime_kind(x) == a for x, a in zip(here["regime"], spaced, strict=True)]
        return _called_by_spaces(frame, where, wrong, np.array(called) & wrong, of, table.name)
    if "words" in here and here["words"].notna().all():
        return Seen(f"{table.name}: {of}; their numbers of words are not those of spaces")
    what = f"{of}: by words between spaces {int(wrong.sum())} would be misjudged"
    share = 100 * float(wrong.sum()) / len(texts)
    return Fault(MINOR, what, table.name, share, "% of the texts would change their regime")


def _called_by_spaces(
    frame: pd.DataFrame, where: np.ndarray, wrong: np.ndarray, bad: np.ndarray, of: str, name: str
) -> Reply:
    """Labels that are those of spaces: all of them, or more than so many texts in scripts with spaces are called.

    Args:
        where: rows in a script without spaces; of these, wrong: those that spaces misjudge; bad: those so labelled.
    """
    k, n = int(bad.sum()), int(wrong.sum())
    if not k or _explained(frame, frame.index[where][wrong]):
        return Seen(f"{name}: {of}; their regimes are not those of words between spaces")
    spaced = [regime_kind(x) in ("explosive", "repetitive") for x in frame["regime"][~where]]
    beside = [[k, n - k], [sum(spaced), len(spaced) - sum(spaced)]]
    more = bool(spaced) and fisher_exact(beside, alternative="greater").pvalue < ALPHA
    what = f"{k} of {n} whose regime changes with it are called what their spaces say, not what their characters say"
    if k < HALF * n and not more:
        return Unasked(f"{name}: {of}: {what}; too few to tell spaces from what the texts say")
    severity = MAJOR if k >= NEARLY * n or more else MINOR
    return Fault(severity, f"{of}; {what}", name, 100 * k / len(frame),
                 "% of the texts change their regime")  # fmt: skip


def _words_by_spaces(said: np.ndarray, texts: Sequence[str]) -> int:
    """How many numbers of words are those of spaces, where these are all that such a text is short of."""
    hits = [bool(n == len(t.split()) and len(units(t)) > 2 * n) for n, t in zip(said, texts, strict=True)]
    return sum(hits) if sum(hits) >= HALF * len(texts) else 0


def _explained(frame: pd.DataFrame, rows: pd.Index) -> bool:
    """Whether their perplexity alone would make these texts explosive."""
    ratio = _ratio(frame)
    return ratio is not None and bool((ratio.loc[rows] > 2 * CEILING).all())


def _ratio(frame: pd.DataFrame) -> pd.Series | None:
    """Perplexity over that of unsteered texts; None where it stands alone, as texts differ by more than steering."""
    if "perplexity_ratio" in frame and frame["perplexity_ratio"].notna().any():
        return frame["perplexity_ratio"]
    plain = unsteered(frame)
    if "perplexity" not in frame or not frame["perplexity"][plain].notna().any():
        return None
    return frame["perplexity"] / frame["perplexity"][plain].median()


def loops(subject: Subject) -> Iterator[Reply]:
    """Texts that repeat themselves, and pass since a loop is likely: counted as successes, or in a surgical regime."""
    for table in (t for t in subject.tables if t.has("text")):
        yield from _loops_of(table)


def _loops_of(table: Table) -> Iterator[Reply]:
    frame = table.frame[table.frame["text"].notna()].reset_index(drop=True)
    loop, plain = _looping(frame), unsteered(frame)
    habit = float(loop[plain].mean()) if plain.any() else 0.0
    passing = _passing(frame)
    if isinstance(passing, str):
        yield Unasked(f"{table.name} {passing}")
        return
    passed = frame.index[~plain & ~is_control(frame) & passing]
    if not len(passed):
        yield Unasked(f"{table.name}: no steered text passes, so that none could be a loop")
        return
    dose = frame["dose"].loc[passed] if "dose" in frame else pd.Series("", index=passed)
    cells = pd.Series(loop[passed], index=passed).groupby(dose, dropna=False).agg(["sum", "size"])
    k, n, doses, powerful = _too_many(cells, max(habit, RARE))
    beside = f"; of unsteered texts {100 * habit:.0f}%" if plain.any() else ""
    said = f"{k} of {n} steered texts that pass are loops (over half of the text){beside}"
    if doses is not None:
        at = f", dose {', '.join(f'{d:g}' for d in doses)}" if "dose" in frame and len(doses) else ""
        more = 100 * (k / n - habit)
        severity = CRITICAL if k / n >= LOOPS else MAJOR
        yield Fault(severity, said, f"{table.name}{at}", more, "% of what passes there are loops beyond that")
    elif not powerful:
        yield Unasked(f"{table.name}: {said}; if all of them were, it could be chance")
    else:
        yield Seen(f"{table.name}: {said}")


def _too_many(cells: pd.DataFrame, common: float) -> tuple[int, int, list[float] | None, bool]:
    """Loops and texts of the doses at which there are too many, or of all together; these doses; whether any number
    of loops would have been too many.

    Every dose is asked, and all of them together, for doses may have few texts each.
    """
    whole = cells.sum()
    asked = [*cells.to_numpy().tolist(), *([whole.tolist()] if len(cells) > 1 else [])]
    level = ALPHA / len(asked)
    bad = [binomtest(int(k), int(n), common, alternative="greater").pvalue < level for k, n in asked]
    powerful = any(common**n < level for _, n in asked)
    if any(at := bad[: len(cells)]):
        doses = [d for d in cells.index[at] if not isinstance(d, str) and pd.notna(d)]
        k, n = map(int, cells[at].sum())
        return k, n, doses, True
    return int(whole["sum"]), int(whole["size"]), [] if bad[-1] else None, powerful


def _looping(frame: pd.DataFrame) -> np.ndarray:
    """Which texts loop: as measured on tokens where that is there, else on words and characters."""
    if "loop_share" in frame and frame["loop_share"].notna().any():
        return (frame["loop_share"] >= LOOPS).to_numpy()
    return np.array([_loops(str(t)) for t in frame["text"]])


def _loops(text: str) -> bool:
    words = units(text)
    index = {w: i for i, w in enumerate(dict.fromkeys(words))}
    return len(words) >= LEAST and loop_share([index[w] for w in words]) >= LOOPS


def _passing(frame: pd.DataFrame) -> Bool[np.ndarray, " rows"] | str:
    """Which texts are taken for good ones: by regime, else by success, else by a ceiling of perplexity; or why not."""
    if "regime" in frame and (kinds := frame["regime"].map(regime_kind)).ne("").any():
        inert = frame["regime"].astype(str).str.contains("inert", case=False)
        return kinds.eq("surgical").to_numpy() & ~inert.to_numpy()
    if "success" in frame and not frame["success"].map(is_score).any():
        said = frame["success"].map(verdict)
        if said.notna().any():
            return said.eq(True).to_numpy(bool)
    if (ratio := _ratio(frame)) is not None:
        return (ratio <= CEILING).to_numpy()
    if "perplexity" in frame:
        return "has perplexities, but no unsteered texts (dose 0) to compare them with"
    return "has texts, but no regime, success (yes or no) or perplexity ratio that could pass a loop"


def held_out_copies(subject: Subject) -> Iterator[Reply]:
    """Copies of one text in training and in test folds."""
    for arm in subject.arms:
        yield _copies_of(arm, subject.is_run)
    for table in (t for t in subject.tables if t.has("text") and not t.on_tokens):
        yield _copies_of_table(table)


def _copies_of_table(table: Table) -> Reply:
    column = next((c for c in ("fold", "topic") if table.has(c)), None)
    if column is None:
        return Unasked(f"{table.name} has texts, but neither folds nor topics")
    signs = [c for c in STEERED if table.has(c)]
    if column == "topic" and signs:
        return Unasked(
            f"{table.name} ({listed(signs)}) holds what a model wrote, of which nothing is held out by topic"
        )
    rows = table.frame[table.frame[column].notna() & ~table.frame["text"].map(is_missing)].reset_index(drop=True)
    if rows[column].nunique() < 2:
        return Unasked(f"{table.name}: one {column} only")
    return _across(rows, table.name, column)


def _across(rows: pd.DataFrame, where: str, column: str) -> Reply:
    """Copies in another fold or topic, within each model and recipe: these may list the same texts."""
    texts, apart = rows["text"].astype(str), np.zeros(len(rows), dtype=bool)
    keys = [c for c in SPLITS if c in rows]
    for at in rows.groupby(keys, dropna=False).indices.values() if keys else [np.arange(len(rows))]:
        apart[at] = _apart(copies(texts.iloc[at].tolist()), rows[column].iloc[at].astype(str).to_numpy())
    if not apart.any():
        return Seen(f"{where}: none of {len(texts)} texts has a copy in another {column}")
    what = f"{int(apart.sum())} of {len(texts)} texts are the same as one in another {column}, or nearly so"
    if column == "topic" and all(is_refusal(t) or _loops(t) for t in texts[apart]):
        return Unasked(f"{where}: {what}, all of them loops or refusals, as a steered model writes them")
    share = 100 * float(apart.mean())
    if column == "fold":
        return Fault(CRITICAL, what, where, share, "% of what is held out was also learnt")
    return Fault(MAJOR, what, where, share, "% of the texts are learnt too where topics are held out")


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
    named = [names_emotion(t, str(e)) for t, e in zip(texts, emotions, strict=True) if nameable(e)]
    k, n = sum(named), len(named)
    if not n:
        return Unasked(f"{where}: no texts of an emotion that has a name")
    if k / n < NAMED:
        return Seen(f"{where}: {k} of {n} stories name their emotion")
    return Fault(
        MINOR, f"{k} of {n} stories name their emotion", where, 100 * k / n, "% of the stories can be told by a word"
    )


def _named_in_prompts(table: Table) -> Reply:
    frame = table.frame.dropna(subset=["prompt", "emotion"])
    frame = frame[frame["emotion"].map(nameable)]
    if frame.empty:
        return Unasked(f"{table.name}: its emotions are numbers, which no prompt can name; give their names")
    pairs = [(str(p), str(e)) for p, e in zip(frame["prompt"], frame["emotion"], strict=True)]
    hits = [names_emotion(p, e) for p, e in pairs]
    # a label in another script would not show by its letters
    could = [hit or main_script(p) == main_script(e) for hit, (p, e) in zip(hits, pairs, strict=True)]
    frame, named = frame[could], pd.Series(hits, index=frame.index)[could]
    if frame.empty:
        return Unasked(f"{table.name}: its prompts and its emotions are in different scripts")
    k, n = int(named.sum()), len(named)
    by_emotion = named.groupby(frame["emotion"].astype(str)).agg(["sum", "mean"])
    often = by_emotion.index[(by_emotion["sum"] >= SEVERAL) & (by_emotion["mean"] >= OF_ONE)]
    if k / n < NAMED and not len(often):
        return Seen(f"{table.name}: {k or 'none'} of {n} prompts name{'' if k > 1 else 's'} the emotion behind them")
    what = f"{k} of {n} prompts name the emotion that is looked for behind them"
    where = table.name if k / n >= NAMED else f"{table.name}, {listed(often)}"
    return Fault(MAJOR, what, where, 100 * k / n, "% of the rows may be the instruction")
