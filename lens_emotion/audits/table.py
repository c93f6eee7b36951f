"""Tables of other projects: which column is what, guessed from its name or told, and counts such as "37/40"."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from lens_emotion.audits.beside import COUNTS, ONE_EACH, Given, fitting
from lens_emotion.audits.cells import (
    HUNDRED,
    NO_NUMBER,
    PERCENT,
    SHARES,
    SIGNED,
    has_decimal_commas,
    in_percent,
    numbers,
)
from lens_emotion.audits.subject import Table
from lens_emotion.errors import ArtifactError
from lens_emotion.files.read import read_text
from lens_emotion.files.user import shown

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
# what we call a column -> what it means, and what others call it (lower case, words joined by "_")
MEANINGS: dict[str, tuple[str, str]] = {
    "model": ("which model", "model_name model_id checkpoint"),
    "method": ("recipe, or condition where its values are such", "recipe variant approach extraction"),
    "layer": ("layer", "layer_idx layer_id layer_index block"),
    "emotion": ("emotion or concept", "label concept target target_emotion class"),
    "cosine": (
        "mean pairwise cosine, or cosine of two recipes",
        "mean_cosine mean_cos mean_pairwise_cosine avg_cosine cos cosine_similarity cos_sim separation mean_cosine_sim "
        "mean_cosine_similarity pairwise_cosine avg_similarity mean_similarity",
    ),
    "accuracy": ("share of right answers", "acc decoding_accuracy probe_accuracy test_accuracy probe_acc"),
    "success": (
        "successes: a count, a share, or true and false",
        "successes k n_success n_successes hits correct passed moved",
    ),
    "rate": ("share of successes", "success_rate share hit_rate moved_rate"),
    "n": ("out of how many", "total n_total trials n_trials n_scenarios scenarios n_texts num_scenarios"),
    "chance": ("rate by guessing", "chance_level baseline chance_rate"),
    "control": (
        "successes of the control: count or share, as the successes",
        "random control_success random_success control_rate random_rate",
    ),
    "control_n": ("out of how many the control", "n_control control_total n_random"),
    "p": ("p-value of the row", "p_value pvalue pval p_val"),
    "n_classes": ("number of classes", "n_emotions num_emotions num_classes classes"),
    "best": (
        "the best layer, or whether this is it",
        "best_layer is_best best_depth selected chosen_layer optimal_layer",
    ),
    "text": ("what was written", "texts output generated generation generated_text completion continuation response "
             "steered_text steered_output"),
    "prompt": ("what the model was asked", "instruction input opening scenario_text"),
    "dose": ("strength of steering", "strength alpha coeff coefficient multiplier scale steering_strength"),
    "condition": ("steered or control", "arm control_type"),
    "regime": ("what the text was called", "status outcome behavior behaviour mode verdict text_regime"),
    "words": ("number of words", "n_words word_count num_words words_count"),
    "perplexity": ("perplexity", "ppl"),
    "perplexity_ratio": ("perplexity over that of the unsteered text", "ppl_ratio"),
    "loop_share": ("share of the text that is one loop", "loop"),
    "position": ("position of a token, the first being 0", "pos token_index token_pos token_position"),
    "norm": ("length of the residual stream", "mean_norm residual_norm hidden_norm l2_norm l2 resid_norm norm_mean"),
    "unit": ("length that doses multiply", "dose_unit norm_unit reference_norm"),
    "push": ("length that was added", "push_norm added_norm dose_absolute dose_abs injection_norm delta_norm"),
    "prompt_tokens": (
        "tokens of the prompt",
        "prompt_len prompt_length n_prompt_tokens prompt_tok seq_len input_tokens input_length n_tokens",
    ),
    "raw": ("a size in raw units of the model", "magnitude distance projection displacement raw_score l2_distance "
            "projection_magnitude vector_norm natural euclidean_distance"),
    "unit_without": ("that length without the first token", ""),
    "relative": (
        "that size over the model's own norm",
        "natural_relative normalised normalized relative_norm norm_ratio",
    ),
    "reliability": ("split-half reliability", "split_half split_half_reliability reliability_mean"),
    "reliability_a": ("reliability of the first of two", "r1 reliability_1 reliability_x"),
    "reliability_b": ("reliability of the second", "r2 reliability_2 reliability_y"),
    "judge_accuracy": ("accuracy of the judge on labelled texts", "judge_acc judge_acc_labelled"),
    "judge_n": ("texts behind that accuracy", "n_labelled judge_n_texts n_judged"),
    "judge_chance": ("accuracy of guessing", ""),
    "fold": ("fold or split that a text is in", "split cv_fold partition"),
    "topic": ("topic or scenario of a text", "scenario scenario_id story topic_id"),
}  # fmt: skip
WORDS = {"model", "method", "emotion", "success", "best", "text", "prompt", "condition", "regime", "fold", "topic"}
MIXED = ("success", "best", "fold")  # words or numbers
LEANS_ON = {  # what says something else where the column beside it could not be read
    "n": COUNTS, "chance": COUNTS, "control": COUNTS, "n_classes": ("cosine", "accuracy", "judge_accuracy"),
    "judge_n": ("judge_accuracy",), "judge_chance": ("judge_accuracy",), "relative": ("raw", "push"),
    "reliability_a": ("cosine",), "reliability_b": ("cosine",),
}  # fmt: skip
SEPARATOR = "separator"  # of a file, among the attributes of its frame
PROBE_OR_JUDGE = "classifier_accuracy"
CALLED = {alias: name for name, (_, aliases) in MEANINGS.items() for alias in (name, *aliases.split())}
_COUNT = re.compile(r"^\s*(\d+)\s*(?:/|of|out of)\s*(\d+)\b")


def table_of(
    frame: pd.DataFrame, columns: Mapping[str, str] | None = None, n_emotions: int | None = None, name: str = "table"
) -> Table:
    """A frame under our names of columns; those that are not understood are left out.

    Args:
        columns: ours of theirs, as in `DataFrame.rename` ({"avg_sim": "cosine"}), or the other way round; these go
            before guesses. One that this frame lacks is passed over if anything else in it is understood.

    Raises:
        ArtifactError: no rows; a name that means nothing here; no column that is understood; words in a column that was
            said to be numbers.
    """
    if frame.empty:
        raise ArtifactError(f"{name} has no rows; give a table of results, a row each")
    if frame.columns.nlevels > 1:
        frame = frame.set_axis(["_".join(map(str, c)) for c in frame.columns], axis=1)
    check_columns(columns or {})
    told = _told(frame, columns or {}, name)
    found, why = _meant(frame, told)
    plain = frame.reset_index(drop=True)
    given = Given(_counts(pd.DataFrame({m: plain[c] for m, c in found.items()}, index=plain.index)), found, set(told))
    made, unread, percent = _read(given, frame.attrs.get(SEPARATOR) == ";")
    if wrong := next((m for m in unread if m in told), None):
        raise ArtifactError(
            f"{name}, column {found[wrong]}, {unread[wrong]}; give numbers, or name another column (columns=)"
        )
    made, beside = fitting(made, given, percent)
    made, unread = _without_what_leans(made, unread | beside, n_emotions)
    why |= {str(found.get(m, m)): reason for m, reason in unread.items()}
    if not len(made.columns) and all(reason.endswith(NO_NUMBER) for reason in unread.values()):
        raise ArtifactError(_nothing(frame, columns or {}, why, name))
    left = [str(c) for c in dict.fromkeys(frame.columns) if c not in found.values() or str(c) in why]
    said = ", ".join(str(found.get(m, m)) for m in percent if m in made)
    return Table(
        f"{name} ({said} in percent)" if said else name,
        made,
        n_emotions or _classes(made),
        unread=tuple(f"{c} ({why[c]})" if c in why else c for c in left),
        told=tuple(map(str, told.values())),
    )


def check_columns(columns: Mapping[str, str]) -> None:
    """That each pair holds a name of ours.

    Raises:
        ArtifactError: a name that means nothing here.
    """
    for a, b in columns.items():
        if a not in MEANINGS and b not in MEANINGS:
            close = get_close_matches(str(b), MEANINGS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ArtifactError(f"{shown(b)} means nothing here; {hint}known: {', '.join(MEANINGS)}")


def _meant(frame: pd.DataFrame, told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Our name -> theirs, told or guessed; and why a column that seems to be one of them is left out."""
    found: dict[str, Any] = dict(told)
    column: Any
    why: dict[str, str] = {}
    for column in frame.columns:
        meaning = _guessed(column, frame)
        if column in told.values() or not meaning:
            continue
        if int((frame.columns == column).sum()) > 1:
            why[str(column)] = "several columns of this name"
        elif meaning not in found:
            found[meaning] = column
    return found, why


def _guessed(column: Any, frame: pd.DataFrame) -> str | None:
    """What a name of a column means, beside the others."""
    said = _words(PERCENT.sub(r"\1", str(column).strip().lower()))
    if said != PROBE_OR_JUDGE:
        return CALLED.get(said)
    others = [_words(c) for c in frame.columns]
    if any(c.startswith("judge") or CALLED.get(c, "").startswith("judge") for c in others):
        return "judge_accuracy"
    return "accuracy" if any(CALLED.get(c) == "layer" for c in others) else None


def _words(column: Any) -> str:
    return re.sub(r"\W+", "_", str(column).strip().lower()).strip("_")


def _nothing(frame: pd.DataFrame, columns: Mapping[str, str], why: Mapping[str, str], name: str) -> str:
    """Why a table holds nothing that is understood, and what would help."""
    held = ", ".join(map(str, frame.columns))[:160]
    if columns and (gone := [a for a, b in columns.items() if a not in frame.columns and b not in frame.columns]):
        return f"{name} has no column {shown(gone[0])}; it has {held}"
    reasons = "; ".join(f"{column}, {reason}" for column, reason in why.items())[:200]
    return (
        f"{name}: none of its columns is understood ({reasons or held[:120]}); say what they "
        "are with columns={'theirs': 'cosine'}; known: " + ", ".join(MEANINGS)
    )


def _read(given: Given, commas: bool) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Columns of words and of numbers; why one could not be read; which were read as percent without a sign of it."""
    frame, unread, percent = given.frame.copy(), {}, []
    names = [m for m in map(str, frame) if m not in WORDS or m in MIXED]
    commas = commas or has_decimal_commas(frame[m] for m in names)
    for m in names:
        named = given.in_percent(m)
        try:
            frame[m] = _mixed(frame[m], commas, named) if m in MIXED else numbers(frame[m], commas, named)
            if m in (*SHARES, *SIGNED) and in_percent(frame[m], -1.0 if m in SIGNED else 0.0):
                frame[m] = frame[m] / HUNDRED
                percent.append(m)
            if m == "p" and not frame[m].dropna().between(0, 1).all():
                raise ValueError("a p-value lies between 0 and 1")
        except ValueError as error:
            unread[m] = str(error)
    return frame.drop(columns=list(unread)), unread, percent


def _without_what_leans(
    frame: pd.DataFrame, unread: dict[str, str], n_emotions: int | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Without the columns that would say something else for want of one that could not be read."""
    found = dict(unread)
    for m, reason in unread.items():
        if reason != ONE_EACH and not (m == "n_classes" and n_emotions):
            found |= {x: f"not without {m}" for x in LEANS_ON.get(m, ()) if x in frame and x not in found}
    return frame.drop(columns=[m for m in found if m in frame]), found


def _mixed(column: pd.Series, commas: bool, percent: bool) -> pd.Series:
    """Numbers where all of its words are numbers; true, false and other words as they are."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_integer_dtype(column):
        return column
    try:
        return numbers(column, commas, percent)
    except ValueError:
        return column


def _told(frame: pd.DataFrame, columns: Mapping[str, str], name: str) -> dict[str, Any]:
    """Our name -> theirs, from a mapping in either direction; without those that this frame lacks."""
    found = {}
    for a, b in columns.items():
        ours, theirs = (a, b) if a in MEANINGS and b in frame.columns else (b, a)
        if theirs not in frame.columns or ours not in MEANINGS:
            continue
        if int((frame.columns == theirs).sum()) > 1:
            raise ArtifactError(f"{name} has several columns {shown(theirs)}; give each a name of its own")
        found[ours] = theirs
    return found


def _counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Counts such as "37/40" and "37 of 40 (92%)" taken apart; true and false added up where no number is beside."""
    for column in {"success", "rate"} & set(frame):
        said = frame[column].astype("string").str.extract(_COUNT)
        if len(said.dropna()):
            frame = frame.assign(success=pd.to_numeric(said[0]), n=pd.to_numeric(said[1]))
    return frame


def _classes(frame: pd.DataFrame) -> int | None:
    """How many classes the rows are about, where they say so."""
    if "n_classes" in frame and frame["n_classes"].nunique() == 1:
        return int(frame["n_classes"].dropna().iloc[0])
    return None


def read_frame(path: str | Path) -> pd.DataFrame:
    """A table file: CSV, TSV, JSON lines, or JSON that is a list of rows, columns, or holds one such list.

    Raises:
        ArtifactError: missing, no text, or no table.
    """
    path = Path(path)
    text = read_text(path, remedy="give a CSV, TSV, JSON or JSONL file")
    try:
        if path.suffix.lower() == ".jsonl":
            return pd.json_normalize([json.loads(line) for line in text.splitlines() if line.strip()])
        if path.suffix.lower() == ".json":
            return _rows_in(json.loads(text))  # others write NaN there
        return _rows_of(text, "\t" if path.suffix.lower() == ".tsv" else _separator(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is no table ({' '.join(str(error).split())[:120]}); give rows of results"
        ) from None


def _rows_of(text: str, separator: str) -> pd.DataFrame:
    frame = pd.read_csv(StringIO(text), sep=separator)
    frame.attrs[SEPARATOR] = separator
    return frame


def _separator(text: str) -> str:
    """What parts the columns of a CSV file: in its first line oftener than the others; a comma as a rule."""
    first = text.partition("\n")[0]
    return max((",", ";", "\t"), key=first.count)


def _rows_in(data: Any) -> pd.DataFrame:
    """The rows of a JSON document: its longest list of objects, at whatever depth; else its columns."""
    best: list[Any] = []
    waiting = [data]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list) and here and all(isinstance(row, dict) for row in here) and len(here) > len(best):
            best = here
        waiting += list(here.values()) if isinstance(here, dict) else here if isinstance(here, list) else []
    if best:
        return pd.json_normalize(best)
    if isinstance(data, dict) and data and all(isinstance(v, dict) for v in data.values()):
        return pd.DataFrame.from_dict(data, orient="index").rename_axis("model").reset_index()
    return pd.DataFrame(
        data if not isinstance(data, dict) or any(isinstance(v, list) for v in data.values()) else [data]
    )
