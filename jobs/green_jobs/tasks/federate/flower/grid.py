"""The server's end: letting sites in, and Flower's grid on a run that lives as long as we say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

from flwr.cli.build import build_fab_from_files
from flwr.common.constant import Status, SubStatus
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
from flwr.serverapp.grid import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from green_api.errors import GreenError

from green_jobs.tasks.federate.flower.pulls import (
    give_up_with_the_node,
    hurry,
    read_each_by_itself,
)
from green_jobs.tasks.federate.flower.runtime import (
    Endpoint,
    acquire,
    acquiring_client,
    bears_a_restart,
    heartbeat,
)

# Flower wants an app; this one is never loaded, for both of its ends are processes of ours.
_APP: Final[Mapping[str, Any]] = {
    "pyproject.toml": b"""
[project]
name = "green-federate"
version = "1.0.0"
license = {file = "LICENSE"}
dependencies = ["flwr>=1.41,<1.42"]

[tool.flwr.app]
publisher = "green"
fab-format-version = 1
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "app:app"
clientapp = "app:app"

[tool.flwr.app.config]
""",
    "LICENSE": b"Apache-2.0\n",
    "app.py": b"app = None\n",
}


class LinkLostError(GreenError):
    """The SuperLink gives this server no run."""


def register_sites(endpoint: Endpoint, public_keys: Mapping[str, bytes]) -> dict[str, int]:
    """Let sites in by their keys, once; the ids of their nodes by name.

    The ids stay as long as the SuperLink's database does.

    Args:
        endpoint: the SuperLink, on this machine.
        public_keys: by site's name, its key as Flower writes keys (``public_key_to_bytes``).

    """
    with _control(endpoint) as control:
        ids = {n.name: int(n.node_id) for n in control.ListNodes(ListNodesRequest()).nodes_info}
        for name in public_keys.keys() - ids.keys():
            request = RegisterNodeRequest(public_key=public_keys[name], name=name)
            ids[name] = int(control.RegisterNode(request).node_id)
    return {name: ids[name] for name in public_keys}


@contextmanager
def open_grid(endpoint: Endpoint, secret: bytes, max_bytes: int) -> Iterator[Grid]:
    """Flower's grid on a new run; those that were left unfinished are ended.

    Args:
        endpoint: the SuperLink, on this machine.
        secret: what the SuperLink was started with.
        max_bytes: of the arrays of a reply; a larger one is an error of its own.

    Raises:
        LinkLostError: the SuperLink gives no run.
        httpx.HTTPError: it refuses, or is away for longer than a start takes; inside too, where it
            has given the run up.

    """
    hurry()
    _start_run(endpoint)
    acquirer = acquiring_client(endpoint, secret)
    token = acquire(acquirer, TaskType.SERVER_APP)
    acquirer.close()
    if token is None:
        msg = "the SuperLink gives this server no run"
        raise LinkLostError(msg)
    grid = HttpGrid(endpoint.address, endpoint.ca is None, endpoint.ca, token=token)
    grid._retry_invoker = bears_a_restart()
    give_up_with_the_node(grid)
    read_each_by_itself(grid, max_bytes)
    client = grid._runtime_client
    task = client.PullTaskInput(PullTaskInputRequest())
    grid.set_run(run_from_proto(task.run))
    identify(task.task_id, task.run.run_id, task.context.node_id)
    try:
        with heartbeat(client):
            yield grid
            client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details=""))
    finally:
        grid.close()


def identify(task_id: int, run_id: int, node_id: int) -> None:
    """Flower's messages take from a global of the process whose they are."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task_id, run_id, node_id


def _start_run(endpoint: Endpoint) -> None:
    content, _ = build_fab_from_files(_APP)
    fab = Fab(hash_str=sha256(content).hexdigest(), content=content, verifications={})
    with _control(endpoint) as control:
        # Sites wait for the parts of a dead server's order as long as its run lasts: most of a
        # minute, until Flower misses its heartbeats.
        for run_id, run in control.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != Status.FINISHED:
                control.StopRun(StopRunRequest(run_id=run_id))
        control.StartRun(StartRunRequest(fab=fab_to_proto(fab)))


@contextmanager
def _control(endpoint: Endpoint) -> Iterator[ControlHttpClient]:
    client = ControlHttpClient.from_server_address(
        endpoint.address, endpoint.ca is None, endpoint.ca, [],
        retry_invoker=bears_a_restart(),
    )  # fmt: skip
    try:
        yield client
    finally:
        client.close()
