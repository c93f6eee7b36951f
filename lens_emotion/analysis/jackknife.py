"""Leave-one-topic-out intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student


def half_width(
    replicates: Float[np.ndarray, n_groups * shape],
    strata: Sequence[np.ndarray] | None = None,
    level: float = 0.95,
) -> Float[np.ndarray, "*shape"]:
    """Half the width of a jackknife interval: t times the jackknife standard error.

    Unlike in a bootstrap, no topic stands twice in a replicate, so that noise is not taken for agreement. Sources:
    Tukey 1958; for several samples (strata: indices of the groups of each), the variances add, with Satterthwaite's
    degrees of freedom. NaN where a replicate is NaN.
    """
    parts = [replicates[s] for s in strata] if strata is not None else [replicates]
    variance = np.stack([(len(x) - 1) / len(x) * ((x - x.mean(0)) ** 2).sum(0) for x in parts])
    total, free = variance.sum(0), np.array([max(1, len(x) - 1) for x in parts])
    share = (variance**2 / free.reshape(-1, *[1] * total.ndim)).sum(0)
    freedom = np.where(total > 0, total**2 / np.where(share > 0, share, 1.0), free[0])
    return np.asarray(np.sqrt(total) * student.ppf((1 + level) / 2, freedom))
