"""Parts of the train split: a smaller one lies within each larger one, and has every class in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np


def drawn(indices: np.ndarray, classes: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """`count` of the positions `indices` (N,), drawn at random by `seed`, in the order in which they stand there.

    `classes` (N,) int, or None: with them every class has its share, and one sample at least. (By the rule of Webster
    and Sainte-Laguë: the j-th sample of a class of n comes at (j - 1/2) / n, the first ones before all others. So each
    number of samples adds one to what the number below it gives.) Raises InputError when there are fewer samples than
    classes.
    """
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(indices))
    if classes is not None:
        order = order[np.argsort(_turns(classes[order]), kind="stable")]
        present = len(np.unique(classes))
        if count < present:
            least = math.ceil(1000 * present / len(indices)) / 1000
            raise InputError(
                f"a part of the train split has {count} of its {len(indices)} samples, for {present} classes; "
                f"set tuning.fidelity.least to {least:g} or more"
            )
    return np.asarray(indices[np.sort(order[:count])])


def _turns(classes: np.ndarray) -> np.ndarray:
    """(N,) when each sample is taken, between 0 and 1: by its place among those of its class."""
    import numpy as np

    _, which, members = np.unique(classes, return_inverse=True, return_counts=True)
    by_class = np.argsort(which, kind="stable")
    starts = np.cumsum(members) - members
    rank = np.empty(len(classes), np.int64)
    rank[by_class] = np.arange(len(classes)) - np.repeat(starts, members)
    return np.where(rank == 0, 0.0, (rank + 0.5) / members[which])


def latest(indices: np.ndarray, count: int) -> np.ndarray:
    """The `count` last positions of the source among `indices` (N,), in the order in which they stand there."""
    import numpy as np

    return np.asarray(indices[np.sort(np.argsort(indices, kind="stable")[len(indices) - count :])])
