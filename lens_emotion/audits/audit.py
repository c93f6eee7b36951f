"""`audit`: every check that can be put to a result, be it a run, vectors, activations or another project's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lens_emotion.audits.counts import counts, judge
from lens_emotion.audits.doses import first_token, norms_of, prompt_length
from lens_emotion.audits.finding import Audit, Check, outcome_of
from lens_emotion.audits.noise import ceiling, noise
from lens_emotion.audits.numbers import bound, finite, raw_units
from lens_emotion.audits.reading import subject_of
from lens_emotion.audits.subject import Subject
from lens_emotion.audits.texts import held_out_copies, instruction, loops, whitespace
from lens_emotion.errors import ArtifactError
from lens_emotion.files.user import numbers_fit
from lens_emotion.stats.tests import check_permutations

CHECKS: tuple[Check, ...] = (
    Check(
        "overflow", "NaN or overflowed layers",
        "load the model in float32 or bfloat16 and extract again; of a table, measure these cells anew", finite,
        "vectors, activations or a table with numbers",
    ),
    Check(
        "first-token", "the first token inside the unit of dose",
        "leave position 0 out of the mean norm, or dose in natural units (le.steer)", first_token,
        "lengths by position (token_norms=, or columns position and norm), or readings of single tokens",
    ),
    Check(
        "prompt-length", "a dose that depends on the prompt's length",
        "measure the unit once, on texts that are not steered, without the first token", prompt_length,
        "lengths by position (token_norms=), or columns prompt_tokens and push",
    ),
    Check(
        "cosine-bound", "a mean cosine at its bound -1/(n - 1)",
        "decode held-out texts instead, or take the mean cosine of vectors less a neutral mean (recipe 'neutral')",
        bound, "vectors of several emotions, or a column of cosines",
    ),
    Check(
        "noise", "differences that are noise",
        "more topics (Reliability.topics_needed), pooled over tokens; report p over shuffled labels", noise,
        "activations of labelled texts, two sets of vectors, or a column of reliabilities",
    ),
    Check(
        "noise-ceiling", "two recipes or precisions that agree as well as their reliabilities allow",
        "divide by sqrt(r1 r2) before two readings are said to differ, or raise both reliabilities", ceiling,
        "two readings of one model, or columns cosine, reliability_a and reliability_b",
    ),
    Check(
        "whitespace", "words counted by spaces where a script has none",
        "count tokens, or characters (distinct-n, loop share)", whitespace, "texts (a column of what was written)",
    ),
    Check(
        "loops", "loops that a ceiling of perplexity blesses",
        "count repetition on tokens beside the ceiling, and loops as failures", loops,
        "texts with a regime, successes or perplexities",
    ),
    Check(
        "raw-units", "sizes of several models in each model's own units",
        "divide by the model's mean norm, or by ||mu_e - mu|| (natural units)", raw_units,
        "several models with sizes",
    ),
    Check(
        "chance", "k of n without chance, or no more than chance",
        "state chance and a control on the same scenarios; exact binomial, McNemar, Wilson interval", counts,
        "counts or shares of successes",
    ),
    Check(
        "judge", "a judge at its own chance, or in its own case",
        "measure it on labelled texts it was not made from, and take one that sees", judge,
        "a judge's accuracy on labelled texts",
    ),
    Check(
        "copies", "copies of one text across folds", "hold copies out together (stimuli.copies), or write more texts",
        held_out_copies, "texts with topics or folds",
    ),
    Check(
        "instruction", "an instruction read back", "re-read the bare story (variant 'reread'), and decode that",
        instruction, "stories that a model was asked for, or a column of prompts",
    ),
)  # fmt: skip


@numbers_fit(ArtifactError)
def audit(
    subject: Any,
    activations: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    n_emotions: int | None = None,
    emotions: Sequence[str] = (),
    token_norms: Any = None,
    unit: float | None = None,
    n_permutations: int = 99,
    seed: int = 0,
) -> Audit:
    """Ask a result what may be wrong with it: thirteen checks (docs/methods/audit.md), none of which runs a model.

    A check replies "found", "passed" or "not asked": what lacks the data, or the power, to show a fault has not passed.

        le.audit("runs/smollm2")                                     # a run folder
        le.audit(vectors, acts)                                      # vectors, and the readings behind them
        le.audit({"fp16": acts_16, "int8": acts_8})                  # two precisions, by name
        le.audit(pd.read_csv("theirs.csv"), columns={"avg_sim": "cosine"}, n_emotions=21)

    Args:
        subject: a run folder; EmotionVectors, EmotionVector, PooledActivations, DoseResponse; arrays or tensors
            `[emotions, layers, d_model]` or `[emotions, d_model]`, or `{emotion: array}`, `{layer: array}`; an object
            of steering-vectors or repeng; a DataFrame; a file of these (safetensors, GGUF, .npy, .npz, CSV, TSV,
            JSON, JSONL), a folder of files; several of them in a list, or by name in a dictionary.
        activations: readings of texts of the same model, in any of these forms.
        columns: what columns of a table are, where their names do not say it ({"theirs": "cosine"}).
        n_emotions: how many classes a table's numbers are about.
        emotions: names of the rows of an array.
        token_norms: lengths of the residual stream at each position of a prompt, the first token's first, or of several
            prompts. unit: the length that doses multiplied.
        n_permutations: label shuffles behind the reliability of activations. seed: of these.

    Raises:
        ArtifactError: nothing that can be audited, a file that cannot be read, a column that is not there.

    Example:
        >>> found = le.audit(vectors, acts)
        >>> list(found.findings)[:3]
        ['check', 'severity', 'what']
    """
    check_permutations(n_permutations)
    if isinstance(emotions, str):
        raise ArtifactError(f"emotions is the text {emotions[:40]!r}; give a list of names")
    whole = subject_of(subject, columns, n_emotions, emotions)
    if activations is not None:
        whole = whole + subject_of(activations, columns, n_emotions, emotions)
    if token_norms is not None:
        whole = whole + Subject("token norms", norms=(_norms(token_norms, unit),))
    _check_told(columns or {}, whole)
    if whole.empty:
        raise ArtifactError(f"{whole.name or 'this'} holds nothing that can be audited")
    arms = tuple(a if a.known is not None else replace(a, seed=seed, n_permutations=n_permutations) for a in whole.arms)
    whole = replace(whole, arms=arms)
    unread = () if whole.is_run else tuple(dict.fromkeys([*(c for t in whole.tables for c in t.unread), *whole.unread]))
    return Audit(whole.name, tuple(outcome_of(check, whole) for check in CHECKS), unread)


def _check_told(columns: Mapping[str, str], whole: Subject) -> None:
    """That what was said of columns was said of one: not each of several tables has it."""
    used = {theirs for table in whole.tables for theirs in table.told}
    gone = [f"{a}={b}" for a, b in columns.items() if not {a, b} & used]
    if gone and whole.tables and not whole.is_run:
        known = sorted(
            {c for table in whole.tables for c in (*table.unread, *map(str, table.frame))} | set(whole.unread)
        )
        raise ArtifactError(f"no table has the column of {gone[0]}; there are {', '.join(known)[:160]}")


def _norms(given: Any, unit: float | None) -> Any:
    try:
        made = norms_of(given, unit)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"token_norms hold no lengths by position ({str(error)[:80]}); give numbers") from None
    if not made.norms:
        raise ArtifactError("token_norms are empty; give the length of the residual stream at each position")
    return made
