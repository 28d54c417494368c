"""Which examples are a site's: all of its own data, or its part of one data set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from green_api.errors import TaskConfigError
from green_api.federate import Federate
from torch.utils.data import Subset, TensorDataset

from green_jobs.data import MapDataset
from green_jobs.seeds import derive
from green_jobs.tasks.federate.attempt import FIELD
from green_jobs.tasks.federate.partition import LEAST, dirichlet_parts, even_parts


def part_of(task: Federate, site: str, dataset: MapDataset) -> MapDataset:
    """The site's training data.

    Raises:
        TaskConfigError: there are too few examples for so many simulated sites.

    """
    partition = task.partition
    if partition is None:
        return dataset
    if len(dataset) < LEAST * partition.sites:
        msg = (
            f"{FIELD}.partition.sites: {partition.sites}: the data set has {len(dataset)} "
            f"examples, and each site needs {LEAST}; ask for fewer sites"
        )
        raise TaskConfigError(msg)
    seed = derive(task.seed, "partition")
    if partition.dirichlet is None:
        parts = even_parts(len(dataset), partition.sites, seed)
    else:
        parts = dirichlet_parts(labels_of(dataset), partition.sites, partition.dirichlet, seed)
    return Subset(dataset, parts[task.names.index(site)].tolist())


def labels_of(dataset: MapDataset) -> npt.NDArray[np.int64]:
    """The class of each example, (N,)."""
    if isinstance(dataset, TensorDataset):
        labels: npt.NDArray[np.int64] = dataset.tensors[1].numpy()
        return labels
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[dataset.indices]
    return np.asarray([int(dataset[place][1]) for place in range(len(dataset))], np.int64)
