"""Parting one data set among simulated sites."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

LEAST: Final = 2
"""Examples of each site."""
Indexes = npt.NDArray[np.int64]


def even_parts(examples: int, sites: int, seed: int) -> list[Indexes]:
    """Indexes (N,) for each site: shuffled, in parts whose sizes differ by one at most."""
    order = np.random.default_rng(seed).permutation(examples)
    return [np.sort(part) for part in np.array_split(order, sites)]


def dirichlet_parts(
    labels: npt.NDArray[np.integer], sites: int, concentration: float, seed: int
) -> list[Indexes]:
    """Indexes (N,) for each site, with the classes' shares drawn from Dirichlet(concentration).

    Every example goes to exactly one site, and each has two at least, which batch norm needs: one
    that drew fewer takes some of the largest. Hsu, Qi and Brown, arXiv 1909.06335.

    Args:
        labels: class of each example, (N,); at least twice as many examples as sites.
        sites: how many parts.
        concentration: the smaller, the more uneven.
        seed: all randomness follows from it.

    """
    random = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(sites)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        shares = random.dirichlet(np.full(sites, concentration))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.extend(piece.tolist())
    for part in parts:
        while len(part) < LEAST:
            part.append(max(parts, key=len).pop())
    return [np.sort(np.asarray(part, np.int64)) for part in parts]
