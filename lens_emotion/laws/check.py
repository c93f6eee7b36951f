"""check: the laws that every number of this package rests on, tried on the user's own model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lens_emotion.display import Result
from lens_emotion.laws import copies, reading, steering
from lens_emotion.laws.subject import Law, LawResult, apply_law, make_subject
from lens_emotion.models.access import Model, ModelInfo, describe
from lens_emotion.models.loading import load_model
from lens_emotion.vectors.emotion_vectors import EmotionVectors

PADS = "pads are seen by real tokens, so every batched number depends on its neighbours; "
LAWS: tuple[Law, ...] = (
    Law(
        "batch equals single",
        reading.batch_equals_single,
        PADS + "read one text at a time (token_budget=1), and report the model",
    ),
    Law(
        "right pad equals left pad",
        reading.right_pad_equals_left_pad,
        PADS + "do not generate in batches with this model, and report it",
    ),
    Law(
        "stopping before the head changes nothing",
        reading.stopping_changes_nothing,
        "reading takes another path than the model itself: use backend='hooked', or put a hook inside each block "
        "(then no part steps aside), and report the model",
    ),
    Law(
        "extracting while generating equals re-reading the same prefix",
        reading.writing_equals_reading,
        "the key-value cache gives other states than the text: use capture='reread'",
    ),
    Law(
        "dose 0 is the identity to the bit",
        steering.dose_zero_is_identity,
        "an unsteered control would be steered: use no dose-response of this model",
    ),
    Law(
        "adding a·v at layer L moves the projection on v at L by a",
        steering.adding_moves_the_projection,
        "doses are not what they say: compare dtype and device of vectors and model; in half precision use float32",
    ),
    Law(
        "cached decoding equals uncached, steered or not",
        steering.cached_equals_uncached,
        "steered tokens are miscounted or the cache is wrong: steer without the cache, positions='all'",
    ),
    Law(
        "per-row steering equals row-by-row",
        steering.rows_equal_row_by_row,
        "rows of a batch disturb one another: run conditions one at a time (token_budget=1)",
    ),
    Law(
        "first token",
        reading.first_token_is_the_rule,
        "a missing, wrong or doubled first token shifts every state: see `lens-emotion stimuli preview`, and load the "
        "model with load_model, so that its tokenizer is read as it was saved",
    ),
    Law(
        "special tokens",
        reading.special_tokens_stay_out,
        "markers are averaged as if they were words, or a text runs on behind its end: mend which tokens "
        "tokenizer_config.json marks as special, and eos_token_id in generation_config.json",
    ),
    Law(
        "any weight counts",
        copies.any_weight_counts,
        "vectors of other weights would pass as this model's: report the model, and keep its vectors apart by hand",
    ),
    Law(
        "each block computes what its source computes",
        copies.blocks_compute_what_the_source_does,
        "a setting of the model's configuration was not converted: use the other backend, and report the architecture",
    ),
    Law(
        "save then load is bit-equal",
        reading.files_are_bit_equal,
        "the disk or the safetensors package changes numbers: use another folder, reinstall safetensors",
    ),
    Law(
        "hooks are gone after an exception",
        steering.hooks_are_gone,
        "the model stays steered: load it anew before every measurement",
    ),
    Law(
        "HookedTransformer, Bridge and plain Hugging Face hidden states agree",
        copies.copies_agree,
        "the residual stream is not the Hugging Face hidden state, so vectors fit no other copy: use the other "
        "backend, and report the architecture",
    ),
    Law(
        "same seed, same result",
        reading.same_seed_same_result,
        "sampled texts cannot be made again: use greedy decoding, or torch.use_deterministic_algorithms(True)",
    ),
)


@dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """Every law on one model."""

    info: ModelInfo
    results: tuple[LawResult, ...]

    @property
    def ok(self) -> bool:
        """True if no law failed."""
        return all(r.passed for r in self.results)

    @property
    def seconds(self) -> float:
        return sum(r.seconds for r in self.results)

    @property
    def half_precision(self) -> bool:
        """True if rounding of a half precision may be what broke a law: then float32 tells."""
        return self.info.dtype not in ("float32", "float64") and any(
            not r.passed and r.unit == "relative" for r in self.results
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per law: deviation, tolerance, unit, passed, skipped (why), note, seconds, meaning of a failure."""
        columns = ("law", "deviation", "tolerance", "unit", "passed", "skipped", "note", "seconds", "meaning")
        return pd.DataFrame([{c: getattr(r, c) for c in columns} for r in self.results])

    def summary(self) -> str:
        """One sentence."""
        tried = [r for r in self.results if not r.skipped]
        failed = [r.law for r in tried if not r.passed]
        kind = f"{self.info.name} ({self.info.backend}, {self.info.dtype})"
        told = f"{len(tried) - len(failed)} of {len(tried)} laws hold on {kind}"
        if skipped := len(self.results) - len(tried):
            told += f", {skipped} not tried"
        return told + (f"; broken: {', '.join(failed)}" if failed else "")


def check(
    model: Model | str | Path,
    *,
    vectors: EmotionVectors | None = None,
    compare: bool = True,
    backend: str = "auto",
    dtype: str = "auto",
    device: str | None = None,
    laws: Iterable[Law] = LAWS,
) -> CheckReport:
    """Try the laws on a model, with a handful of short texts.

    Args:
        model: a model, or a name, hub id, folder or .gguf file, loaded with `backend`, `dtype` and `device`.
        vectors: of this model; default: made of the texts of the check.
        compare: load the model again, plain and on the other backend, and compare (needs its memory twice over; a model
            given as an object that `load_model` did not load cannot be loaded again).
        laws: which; anything that yields laws.
        backend, dtype, device: as in `load_model`, where `model` is a name.

    Raises:
        ProcessedModelError: the model's weights are processed.
        FingerprintError, UnsupportedModelError: vectors of another model; an unknown model, backend, precision.

    Example:
        >>> from lens_emotion.laws.check import LAWS
        >>> report = le.check(model, compare=False, laws=LAWS[:1])
        >>> len(report.table)
        1
    """
    if isinstance(model, (str, Path)):
        model = load_model(str(model), backend=backend, dtype=dtype, device=device)
    source = getattr(model, "lens_emotion_source", None)  # none of an object that another library loaded
    again = partial(copies.other_copies, model, *source) if compare and source else None
    plain = partial(copies.source_of, model, *source) if compare and source else None
    subject = make_subject(model, vectors, again, plain)
    return CheckReport(describe(model), tuple(apply_law(law, subject) for law in laws))
