"""Start from an ActivationCache you already have: labelled rows for every analysis, without reading again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor
from transformer_lens import ActivationCache

from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.extraction.pooling import Pooling, check_content, norm_sums, pool_cache, story_mean
from lens_emotion.extraction.reader import make_header
from lens_emotion.models.access import Model


def activations_from_cache(
    model: Model,
    cache: ActivationCache,
    content: Bool[Tensor, "batch pos"],
    emotions: Sequence[str],
    topics: Sequence[str],
    *,
    texts: Sequence[str] | None = None,
    pooling: Pooling | None = None,
    allow_processed: bool = False,
) -> PooledActivations:
    """Pool a cache that holds `resid_post` of every layer.

    Args:
        model: the model the cache comes from (for the header; it does not run).
        cache: from `residual_cache`, or from `model.run_with_cache` with those hook points named.
        content: True for the tokens that may be pooled (no pads, BOS, or position 0).
        emotions, topics: labels per row; "neutral" is the neutral class, folds never share a topic.
        texts: what was read, for reports and for finding duplicates.

    Raises:
        StimulusError: labels that do not match the rows, a row without content, a cache without `resid_post`.
        ProcessedModelError: processed weights without `allow_processed`.
    """
    pooling = pooling or story_mean()
    n = content.shape[0]
    given = {"emotions": len(emotions), "topics": len(topics), "texts": n if texts is None else len(texts)}
    if any(size != n for size in given.values()):
        raise StimulusError(f"the cache has {n} rows, but there are {given}; give one label of each kind per row")
    counts = content.sum(1).tolist()
    for i, count in enumerate(counts):
        check_content(pooling, count, texts[i] if texts else f"row {i}")
    named = list(zip(emotions, topics, texts or [""] * n, strict=True))
    sha256 = hashlib.sha256(json.dumps(named, ensure_ascii=False).encode()).hexdigest()
    header = make_header(
        model, "comprehension", pooling.name, "own cache", sha256, allow_processed=allow_processed, variant="own cache"
    )
    taken = (pooling.weights(content.cpu()) > 0).sum(1).tolist()
    records = tuple(
        TextRecord(str(i), e, t, x, n_total=count, n_pooled=k, n_skipped=count - k)
        for i, ((e, t, x), count, k) in enumerate(zip(named, counts, taken, strict=True))
    )
    norm = (norm_sums(cache, content) / max(sum(counts), 1)).float()
    return PooledActivations(pool_cache(cache, content, pooling), records, norm, header)
