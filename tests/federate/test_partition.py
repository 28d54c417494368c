"""A data set that is parted among sites: nothing twice, nothing lost, the same for a seed."""

from __future__ import annotations

import numpy as np
from green_jobs.tasks.federate.partition import LEAST, dirichlet_parts, even_parts
from hypothesis import given
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**31)


@given(st.integers(40, 300), st.integers(2, 20), SEEDS)
def test_even_parts_differ_by_one_at_most(examples: int, sites: int, seed: int) -> None:
    parts = even_parts(examples, sites, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(examples))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= LEAST


@given(
    st.lists(st.integers(0, 9), min_size=40, max_size=300),
    st.integers(2, 20),
    st.floats(0.05, 100),
    SEEDS,
)
def test_no_example_is_lost_or_given_twice_and_each_site_has_two(
    labels: list[int], sites: int, concentration: float, seed: int
) -> None:
    parts = dirichlet_parts(np.asarray(labels), sites, concentration, seed)
    assert len(parts) == sites
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert min(len(part) for part in parts) >= LEAST
    again = dirichlet_parts(np.asarray(labels), sites, concentration, seed)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


def test_a_small_concentration_is_uneven_and_a_large_one_even() -> None:
    labels = np.repeat(np.arange(10), 600)

    def spread(concentration: float) -> float:
        parts = dirichlet_parts(labels, 10, concentration, seed=7)
        shares = [np.bincount(labels[p], minlength=10) / len(p) for p in parts]
        return float(np.mean([share.max() for share in shares]))

    assert spread(0.1) > 0.4 > 0.2 > spread(100)
