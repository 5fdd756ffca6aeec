"""How sure a figure is: intervals by drawing the speakers anew (Efron's percentile bootstrap)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Figure = Callable[[np.ndarray], np.ndarray]
"""(draws, K) means over utterances -> (draws,) the figure of each draw"""


def bootstrap_interval(
    values: np.ndarray,
    speakers: Sequence[str],
    figure: Figure,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval that holds the figure in `level` of the draws.

    values: (n, K), what the figure is made of, a row for each utterance; speakers: (n). A draw
    takes as many speakers as there are, with replacement and with all their utterances, so what
    stands in one row stays paired. Raises ValueError for no rows.
    """
    if len(values) == 0 or len(values) != len(speakers):
        raise ValueError(f"expected a speaker for each row: {len(values)}, {len(speakers)}")
    names, place = np.unique(np.asarray(speakers), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, place, values)
    sizes = np.bincount(place)
    times = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=draws
    )
    drawn = figure((times @ sums) / (times @ sizes)[:, None])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
