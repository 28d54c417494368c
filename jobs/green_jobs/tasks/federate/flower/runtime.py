"""The Runtime API, which the SuperLink serves to the server and a SuperNode to its trainer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.retry.retry_invoker import constant
from flwr.supercore.runtime import RuntimeHttpClient

_ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"
_HEARTBEAT_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 30.0
"""More than a SuperLink takes to start again."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one of Flower's APIs is served."""

    address: str
    """Host and port."""
    ca: bytes | None = None
    """PEM of the authority that its certificate is checked against; None for plain HTTP."""


def acquiring_client(endpoint: Endpoint, secret: bytes) -> RuntimeHttpClient:
    """A client that may ask for tasks: it knows the secret of this run."""
    signer = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={_ACQUIRE})
    return _client(endpoint, RuntimeVersionHttpInterceptor("SuperExec"), signer)


def task_client(endpoint: Endpoint, token: str, component: str) -> RuntimeHttpClient:
    """A client that works on one task."""
    version = RuntimeVersionHttpInterceptor(component)
    return _client(endpoint, version, RuntimeTokenHttpInterceptor(token))


def _client(endpoint: Endpoint, *interceptors: ProtobufClientInterceptor) -> RuntimeHttpClient:
    # It tries nothing again by itself: Flower's retries interrupt the process on a refusal, and a
    # SuperNode that was started again refuses the tasks of the one before.
    return RuntimeHttpClient.from_server_address(
        endpoint.address, endpoint.ca is None, endpoint.ca, interceptors
    )


def bears_a_restart() -> RetryInvoker:
    """What asks a SuperLink again that is away for a moment; any answer is one.

    Flower's own interrupts the process at a 401, and raises what is no ``Exception`` at a 403. Here
    both are ``httpx.HTTPStatusError``.
    """
    return RetryInvoker(
        wait_gen_factory=lambda: constant(_RETRY_SECONDS),
        recoverable_exceptions=httpx.TransportError,
        max_tries=None,
        max_time=_PATIENCE_SECONDS,
    )


def acquire(client: RuntimeHttpClient, kind: TaskType) -> str | None:
    """The token of the oldest task of a kind that nobody has; None where there is none.

    Raises:
        httpx.HTTPError: the other end refuses, or is not there.

    """
    answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[kind]))
    return answer.token if answer.HasField("task") and answer.token else None


@contextmanager
def heartbeat(client: RuntimeHttpClient) -> Iterator[None]:
    """Tell that this process lives; Flower's own sender interrupts the process on a refusal."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_HEARTBEAT_SECONDS):
            try:
                client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError as error:
                _LOG.warning("a heartbeat was not taken: %s", error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
