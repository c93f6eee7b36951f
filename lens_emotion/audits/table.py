"""Tables of other projects: which column is what, guessed from its name or told, and counts such as "37/40"."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lens_emotion.audits.subject import Table
from lens_emotion.errors import ArtifactError
from lens_emotion.files.read import read_text
from lens_emotion.files.user import shown

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
# what we call a column -> what it means, and what others call it (lower case, words joined by "_")
MEANINGS: dict[str, tuple[str, str]] = {
    "model": ("which model", "model_name model_id checkpoint"),
    "method": ("recipe, condition or arm", "recipe variant approach extraction"),
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
    "n": ("out of how many", "total n_total trials n_trials n_scenarios scenarios n_texts count num_scenarios"),
    "chance": ("rate by guessing", "chance_level baseline chance_rate"),
    "control": (
        "successes of the control: count or share, as the successes",
        "random control_success random_success control_rate random_rate n_control",
    ),
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
    "judge_accuracy": ("accuracy of the judge on labelled texts", "judge_acc classifier_accuracy judge_acc_labelled"),
    "judge_n": ("texts behind that accuracy", "n_labelled judge_n_texts n_judged"),
    "judge_chance": ("accuracy of guessing", ""),
    "fold": ("fold or split that a text is in", "split cv_fold partition"),
    "topic": ("topic or scenario of a text", "scenario scenario_id story topic_id"),
}  # fmt: skip
WORDS = {"model", "method", "emotion", "success", "best", "text", "prompt", "condition", "regime", "fold", "topic"}
_COUNT = re.compile(r"^\s*(\d+)\s*(?:/|of|out of)\s*(\d+)\b")
CALLED = {alias: name for name, (_, aliases) in MEANINGS.items() for alias in (name, *aliases.split())}


def table_of(
    frame: pd.DataFrame, columns: Mapping[str, str] | None = None, n_emotions: int | None = None, name: str = "table"
) -> Table:
    """A frame under our names of columns; those that are not understood are left out.

    Args:
        columns: ours of theirs, as in `DataFrame.rename` ({"avg_sim": "cosine"}), or the other way round; these go
            before guesses.

    Raises:
        ArtifactError: no rows; a column that is named and not there; a name that means nothing here; no column that is
            understood; words where numbers should be.
    """
    if frame.empty:
        raise ArtifactError(f"{name} has no rows; give a table of results, a row each")
    if frame.columns.nlevels > 1:
        frame = frame.set_axis(["_".join(map(str, c)) for c in frame.columns], axis=1)
    told = _told(frame, columns or {}, name)
    column: Any
    found: dict[str, Any] = dict(told)
    for column in frame.columns:
        meaning = CALLED.get(re.sub(r"\W+", "_", str(column).strip().lower()).strip("_"))
        if meaning and meaning not in found and column not in told.values():
            found[meaning] = column
    if not found:
        raise ArtifactError(
            f"{name}: none of its columns is understood ({', '.join(map(str, frame.columns))[:120]}); say what they "
            "are with columns={'theirs': 'cosine'}; known: " + ", ".join(MEANINGS)
        )
    plain = frame.reset_index(drop=True)
    made = pd.DataFrame({meaning: plain[column] for meaning, column in found.items()})
    made = _counts(made)
    for column in set(map(str, made)) - WORDS:
        made[column] = _numbers(made[column], f"{name}, column {found.get(column, column)}")
    unread = tuple(str(c) for c in frame.columns if c not in found.values())
    return Table(name, made, n_emotions or _classes(made), unread=unread)


def _told(frame: pd.DataFrame, columns: Mapping[str, str], name: str) -> dict[str, Any]:
    """Our name -> theirs, from a mapping in either direction."""
    found = {}
    for a, b in columns.items():
        ours, theirs = (a, b) if a in MEANINGS and b in frame.columns else (b, a)
        if theirs not in frame.columns:
            held = ", ".join(map(str, frame.columns))[:160]
            raise ArtifactError(f"{name} has no column {shown(theirs)}; it has {held}")
        if ours not in MEANINGS:
            close = get_close_matches(str(ours), MEANINGS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ArtifactError(f"{shown(ours)} means nothing here; {hint}known: {', '.join(MEANINGS)}")
        found[ours] = theirs
    return found


def _counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Counts such as "37/40" and "37 of 40 (92%)" taken apart; true and false added up where no number is beside."""
    for column in {"success", "rate"} & set(frame):
        said = frame[column].astype("string").str.extract(_COUNT)
        if len(said.dropna()):
            frame = frame.assign(success=pd.to_numeric(said[0]), n=pd.to_numeric(said[1]))
    return frame


def _numbers(column: pd.Series, what: str) -> pd.Series:
    """Numbers, also in words of a spreadsheet: "92%", "1,292"."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    said = column.astype("string").str.strip().str.replace(",", "").str.lower()
    percent = said.str.endswith("%", na=False)
    found = pd.to_numeric(said.str.rstrip("%").str.removeprefix("layer").str.lstrip(" _l"), errors="coerce")
    wrong = found.isna() & said.notna() & ~said.isin(["", "nan", "none", "null", "na", "n/a", "-", "–"])
    if wrong.any():
        raise ArtifactError(
            f"{what}, row {int(wrong.to_numpy().argmax()) + 1}: {shown(str(column[wrong].iloc[0]))} is no number; give "
            "numbers, or name another column (columns=)"
        )
    return (found / np.where(percent, 100.0, 1.0)).astype(float)


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
        return pd.read_csv(StringIO(text), sep="\t" if path.suffix.lower() == ".tsv" else ",")
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is no table ({' '.join(str(error).split())[:120]}); give rows of results"
        ) from None


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
