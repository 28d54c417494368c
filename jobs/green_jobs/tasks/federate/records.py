"""Weights and figures as Flower carries them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from numpy.lib.format import read_array_header_1_0, read_magic
from safetensors import SafetensorError
from safetensors.numpy import load, save

from green_jobs.tasks.federate.guard import Update
from green_jobs.tasks.federate.state import Weights

ARRAYS: Final = "arrays"
METRICS: Final = "metrics"
CONFIG: Final = "config"
_PACKED: Final = "safetensors"
_NPY: Final = (1, 0)
"""What Flower's ``Array`` writes."""
WHAT: Final = "what"
"""In the config of a message that is no round: one of the next two."""
DECLARE: Final = "declare"
"""How many examples has the site?"""
FINISH: Final = "finish"
"""There will be no further round."""


def pack(weights: Weights) -> ArrayRecord:
    """Weights for a message, all in one array of bytes, as safetensors.

    A SuperLink takes some 20 ms of CPU time for each array of each message and its parts: with a
    message of many small ones that was most of a round.
    """
    data = save({name: np.array(array, order="C") for name, array in weights.items()})
    return ArrayRecord({_PACKED: Array(np.frombuffer(data, np.uint8))})


def unpack(record: ArrayRecord) -> Weights:
    """Weights of a message, by name; nothing in it is ever run.

    Raises:
        ValueError: it holds something else.

    """
    if set(record) != {_PACKED}:
        msg = f"it has the arrays {sorted(record)[:6]}, not {_PACKED}"
        raise ValueError(msg)
    try:
        # The library's own order changes from call to call.
        return dict(sorted(load(_bytes_of(record[_PACKED])).items()))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    except KeyError as error:
        msg = f"its safetensors have the type {error}, which numpy does not know"
        raise ValueError(msg) from error


def _bytes_of(array: Array) -> bytes:
    """What ``pack`` put into an array.

    Read by hand, for ``np.load`` opens archives too, and takes as much memory as a header claims.

    Raises:
        ValueError: it is no npy of bytes, or its header and its body differ.

    """
    stream = BytesIO(array.data)
    version = read_magic(stream)
    if version != _NPY:
        msg = f"its npy has version {version}, not {_NPY}"
        raise ValueError(msg)
    shape, _, dtype = read_array_header_1_0(stream)
    body = array.data[stream.tell() :]
    if dtype != np.uint8 or shape != (len(body),):
        msg = f"its npy claims {dtype}{list(shape)[:6]}, and {len(body)} bytes follow"
        raise ValueError(msg)
    return body


def spread(weights: Weights) -> ArrayRecord:
    """Weights as Flower's strategies take them: an array each."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in weights.items()})


def gather(record: ArrayRecord) -> Weights:
    """Weights as Flower's strategies give them."""
    return {name: array.numpy() for name, array in record.items()}


def size_of(record: ArrayRecord) -> int:
    """Bytes of the arrays, as they travel."""
    return sum(len(array.data) for array in record.values())


def reply(weights: Weights, metrics: Mapping[str, float | int]) -> RecordDict:
    """What a site answers."""
    return RecordDict({ARRAYS: pack(weights), METRICS: MetricRecord(dict(metrics))})


def read_update(site: str, content: RecordDict, max_bytes: int) -> Update | str:
    """What a site answered, or why it cannot be read; nothing large is opened."""
    if set(content) != {ARRAYS, METRICS}:
        return f"it has the records {sorted(content)[:6]}, not {ARRAYS} and {METRICS}"
    arrays, metrics = content[ARRAYS], content[METRICS]
    if not isinstance(arrays, ArrayRecord) or not isinstance(metrics, MetricRecord):
        return "its records are of other kinds"
    size = size_of(arrays)
    if size > max_bytes:
        return f"it has {size} bytes, at most {max_bytes} are taken"
    try:
        return Update(site, unpack(arrays), dict(metrics))
    except Exception as error:  # also of memory: whatever a site sends costs its update alone
        return f"its arrays cannot be read: {str(error) or type(error).__name__}"
