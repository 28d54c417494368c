"""What this project takes from Flower's insides, against the pinned version: real processes."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.serverapp.grid import Grid
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from green_jobs.tasks.federate.errors import CONFIG_CODE
from green_jobs.tasks.federate.flower.grid import open_grid, register_sites
from green_jobs.tasks.federate.flower.release import release
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.flower.superlink import FleetOnly
from green_jobs.tasks.federate.flower.switches import SWITCHES
from green_jobs.tasks.federate.records import ARRAYS, CONFIG, METRICS, pack, unpack
from green_operator.objects.credentials import make_credentials

from tests.cluster.harness.processes import Process, free_port
from tests.cluster.harness.waiting import wait_for
from tests.needs import unavailable

ROOM = "green_jobs.tasks.federate.flower"
SECRET = b"0123456789abcdef0123456789abcdef"
MAX_BYTES = 10**6
WEIGHTS = {"b": np.zeros((2, 3), np.float32), "a": np.zeros((), np.int64)}


SITES = ["a", "b", "other"]


def credentials(sites: Sequence[str] = SITES) -> dict[str, dict[str, bytes]]:
    hosts = sorted({"127.0.0.1", own_address()})
    return make_credentials(sites, hosts, datetime.now(UTC), secrets.token_bytes)


def own_address() -> str:
    """This machine's address for others, loopback where it has none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


class Federation:
    """A SuperLink, SuperNodes and their trainers, each a process."""

    def __init__(self, folder: Path, sites: Sequence[str] = SITES) -> None:
        self.folder = folder
        self.made = credentials(sites)
        for name, content in (self.made["server"] | {"secret": SECRET}).items():
            (folder / name).write_bytes(content)
        self.secret = folder / "secret"
        self.address = f"127.0.0.1:{free_port()}"
        self.endpoint = Endpoint(self.address, self.made["server"]["ca.pem"])
        self.ids: dict[str, int] = {}
        self.processes: dict[str, Process] = {}

    def start(self, *sites: str) -> None:
        self.start_link()
        self.ids = register_sites(self.endpoint, {site: self.key_of(site) for site in sites})
        for site in sites:
            self.start_site(site)

    def key_of(self, site: str) -> bytes:
        """The public key; the private one lies where its node finds it."""
        (self.folder / site).write_bytes(self.made[site]["site.key"])
        return self.made["server"][f"{site}.pub"]

    def start_link(self, host: str = "127.0.0.1") -> None:
        port = self.address.partition(":")[2]
        self._start(
            "link", f"{ROOM}.superlink", "--host", host, "--port", port,
            "--ssl-certfile", self.folder / "server.pem", "--ssl-keyfile", self.folder / "server.key",
            "--ssl-ca-certfile", self.folder / "ca.pem", "--enable-supernode-auth",
            "--isolation", "process", "--superexec-auth-secret-file", self.secret,
            "--database", self.folder / "state.db",
        ).wait_ready(self.is_healthy)  # fmt: skip

    def start_site(self, site: str) -> None:
        runtime = f"127.0.0.1:{free_port()}"
        self.start_node(site, self.folder / site, self.folder / "ca.pem", runtime)
        self._start(
            f"{site}-trainer", "tests.federate.counting_site", runtime, self.secret, site
        )  # fmt: skip

    def start_node(self, site: str, key: Path, ca: Path, runtime: str) -> Process:
        host, _, port = runtime.partition(":")
        return self._start(
            site, f"{ROOM}.supernode", "--superlink", self.address, "--root-certificates", ca,
            "--auth-supernode-private-key", key, "--isolation", "process",
            "--superexec-auth-secret-file", self.secret, "--host", host, "--port", port,
        )  # fmt: skip

    def _start(self, name: str, module: str, *arguments: object) -> Process:
        home = {"FLWR_HOME": str(self.folder / "home")}
        process = Process(
            name, [sys.executable, "-m", module, *arguments], self.folder / f"{name}.log",
            {**SWITCHES, **home},
        )  # fmt: skip
        self.processes[name] = process
        process.start()
        return process

    def is_healthy(self) -> bool:
        trusted = ssl.create_default_context(cadata=self.made["server"]["ca.pem"].decode())
        return httpx.get(f"https://{self.address}/health", verify=trusted).status_code == 200

    def wait_online(self, grid: Grid, *sites: str) -> None:
        wanted = {self.ids[site] for site in sites}
        wait_for(
            lambda: wanted <= set(grid.get_node_ids()), 90, f"{sites} are online",
            seen=lambda: [p.tail(8) for p in self.processes.values()],
        )  # fmt: skip

    def ask(self, grid: Grid, **config: Any) -> dict[str, Message]:
        content = RecordDict({ARRAYS: pack(WEIGHTS), CONFIG: ConfigRecord(config)})
        names = {node: site for site, node in self.ids.items()}
        messages = [
            Message(content, dst_node_id=node, message_type="train")
            for node in grid.get_node_ids()
            if node in names
        ]
        sent = [names[m.metadata.dst_node_id] for m in messages]
        waiting = dict(zip(grid.push_messages(messages), sent, strict=True))
        replies: dict[str, Message] = {}

        def have_all_come() -> bool:
            for message in grid.pull_messages(list(waiting)):
                replies[waiting.pop(message.metadata.reply_to_message_id)] = message
            return not waiting

        wait_for(have_all_come, 120, "all sites answer", seen=lambda: sorted(waiting.values()))
        return replies

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.kill()


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Federation]:
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    made = Federation(tmp_path)
    yield made
    made.stop()


def pid_of(message: Message) -> object:
    return dict(message.content[METRICS])["pid"]


def test_sites_answer_round_after_round_from_one_process_and_a_failure_is_told(
    federation: Federation,
) -> None:
    federation.start("a", "b")
    with open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid:
        federation.wait_online(grid, "a", "b")
        first = federation.ask(grid)
        assert first.keys() == {"a", "b"}
        for reply in first.values():
            weights = unpack(reply.content[ARRAYS])  # type: ignore[arg-type]
            assert weights.keys() == WEIGHTS.keys()
            assert weights["b"].dtype == np.float32
            assert (weights["b"] == 1).all()
        second = federation.ask(grid, fail="b")
        assert second["b"].has_error()
        assert "this site's disk is gone" in second["b"].error.reason
        assert second["b"].error.code != CONFIG_CODE
        unfit = federation.ask(grid, unfit="a")["a"].error
        assert (unfit.code, unfit.reason) == (
            CONFIG_CODE,
            "spec.task.federate.model: is another net",
        )
        garbled = federation.ask(grid, garble="a")
        assert "its answer cannot be read: TypeError" in garbled["a"].error.reason
        assert garbled["b"].has_content()
        third = federation.ask(grid)
        assert {s: pid_of(m) for s, m in third.items()} == {s: pid_of(m) for s, m in first.items()}


def test_ids_of_sites_and_the_run_outlive_the_superlink(federation: Federation) -> None:
    federation.start("a")
    with open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid:
        federation.wait_online(grid, "a")
        federation.processes["link"].kill()
        federation.start_link()
        federation.wait_online(grid, "a")
        assert federation.ask(grid).keys() == {"a"}
    again = federation.key_of("other")
    assert register_sites(federation.endpoint, {"a": again}) == federation.ids


class Killed(BaseException):
    """The server, amid what it does."""


def test_an_order_whose_server_was_killed_amid_it_is_not_waited_for(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its site's only trainer waits for the rest, and takes no order of the next server."""
    federation.start("a")

    def orders_taken() -> int:
        return federation.processes["a"].tail(1000).count("Receiving")

    with (
        suppress(Killed),
        open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid,
        monkeypatch.context() as patch,
    ):
        federation.wait_online(grid, "a")
        federation.ask(grid)
        pushed: list[object] = []
        push = RuntimeHttpClient.PushObject

        def killed_at_the_second(client: RuntimeHttpClient, request: Any) -> Any:
            pushed.append(request)
            if len(pushed) > 1:
                raise Killed
            return push(client, request)

        patch.setattr(RuntimeHttpClient, "PushObject", killed_at_the_second)
        try:
            federation.ask(grid)
        except Killed:
            wait_for(lambda: orders_taken() > 1, 30, "the node has begun to take the order")
            time.sleep(1)  # its trainer looks for a task ten times a second
            federation.processes["link"].kill()
            raise
    federation.start_link()
    with open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid:
        federation.wait_online(grid, "a")
        assert federation.ask(grid).keys() == {"a"}
    # At once: that the dead server misses its heartbeats is not waited for.
    assert "ControlServicer.StopRun" in federation.processes["link"].tail(1000)
    assert "a task is lost" in federation.processes["a-trainer"].tail()


@pytest.mark.parametrize("wrong", ["key", "authority"])
def test_who_has_no_registered_key_or_trusts_another_authority_gets_nowhere(
    federation: Federation, wrong: str
) -> None:
    federation.start_link()
    key, ca = federation.folder / "key", federation.folder / "ca.pem"
    key.write_bytes(federation.made["other"]["site.key"])
    if wrong == "authority":
        ca = federation.folder / "other.pem"
        ca.write_bytes(credentials()["server"]["ca.pem"])
    node = federation.start_node("stranger", key, ca, f"127.0.0.1:{free_port()}")
    wait_for(lambda: not node.is_running, 60, "it ends", seen=node.tail)
    with open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid:
        assert list(grid.get_node_ids()) == []


def test_a_killed_nodes_key_is_refused_until_it_is_released(federation: Federation) -> None:
    federation.start("a")
    with open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid:
        federation.wait_online(grid, "a")
        federation.processes["a"].kill()
        node = federation.start_node(
            "a-again", federation.folder / "a", federation.folder / "ca.pem",
            f"127.0.0.1:{free_port()}",
        )  # fmt: skip
        wait_for(lambda: not node.is_running, 40, "it is refused", seen=node.tail)
        assert "SuperNode ID" not in node.tail()
        release(federation.endpoint, (federation.folder / "a").read_bytes(), federation.ids["a"])
        assert list(grid.get_node_ids()) == []
        node.start()
        federation.wait_online(grid, "a")


def test_a_task_is_given_only_to_who_knows_the_secret(federation: Federation) -> None:
    federation.start_link()
    with (
        pytest.raises(httpx.HTTPStatusError) as caught,
        open_grid(federation.endpoint, b"another secret, as long as ours.", MAX_BYTES),
    ):
        pytest.fail("a stranger got the run")
    assert caught.value.response.status_code == 401


def paths_of(client: type[ProtobufClient]) -> list[str]:
    """All of an API's paths, as Flower's own client of it asks for them."""

    def path_of(*_: object, path: str, **__: object) -> str:
        return path

    recorder: Any = type("Recorder", (client,), {
        "__init__": lambda _: None, "_unary_unary": path_of, "_unary_stream": path_of,
    })()  # fmt: skip
    return [getattr(recorder, name)(None) for name in vars(client) if name[0].isupper()]


def test_who_comes_from_outside_without_a_key_gets_in_nowhere(federation: Federation) -> None:
    """With network reach and the CA file: what a pod of the same namespace has."""
    host = own_address()
    if host == "127.0.0.1":
        unavailable("this machine has no address but loopback")
    federation.start_link("0.0.0.0")
    outside = f"{host}:{federation.address.partition(':')[2]}"
    trusted = ssl.create_default_context(cadata=federation.made["server"]["ca.pem"].decode())
    with httpx.Client(base_url=f"https://{outside}", verify=trusted) as attacker:

        def answers(client: type[ProtobufClient]) -> dict[str, int]:
            kind = {"Content-Type": "application/protobuf"}
            return {
                path: attacker.post(path, headers=kind).status_code for path in paths_of(client)
            }

        assert attacker.get("/health").status_code == 200
        for inner in (ControlHttpClient, RuntimeHttpClient):
            assert set((told := answers(inner)).values()) == {403}, told
        assert set((told := answers(FleetHttpClient)).values()) == {401}, told


def test_who_signs_with_an_unknown_key_is_refused_on_every_path(federation: Federation) -> None:
    federation.start_link()
    private = load_ssh_private_key(federation.made["other"]["site.key"], None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signer = NodeAuthHttpInterceptor(private, private.public_key())
    stranger = FleetHttpClient.from_server_address(
        federation.address, insecure=False, root_certificates=federation.endpoint.ca,
        interceptors=[signer],
    )  # fmt: skip
    key = public_key_to_bytes(private.public_key())
    attempts: list[Callable[[], object]] = [
        lambda: stranger.RegisterNode(RegisterNodeFleetRequest(public_key=key)),
        lambda: stranger.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=30)),
        lambda: stranger.PullMessages(PullMessagesRequest(node=Node(node_id=1))),
    ]
    with stranger:
        for attempt in attempts:
            with pytest.raises(httpx.HTTPStatusError) as caught:
                attempt()
            assert caught.value.response.is_client_error
    with open_grid(federation.endpoint, SECRET, MAX_BYTES) as grid:
        assert list(grid.get_node_ids()) == []


@pytest.mark.parametrize(
    ("client", "path", "status"),
    [
        ("10.0.0.7", "/v1/fleet/pull-messages", 200),
        ("10.0.0.7", "/health", 200),
        ("10.0.0.7", "/v1/control/register-node", 403),
        ("10.0.0.7", "/v1/runtime/acquire-task", 403),
        ("10.0.0.7", "/v1/fleet/../control/register-node", 403),
        ("10.0.0.7", "/docs", 403),
        ("fd00::7", "/v1/control/start-run", 403),
        ("", "/v1/control/start-run", 403),
        ("127.0.0.1", "/v1/control/register-node", 200),
        ("::1", "/v1/runtime/acquire-task", 200),
    ],
)
def test_strangers_reach_the_fleet_alone(client: str, path: str, status: int) -> None:
    answers: list[Mapping[str, Any]] = []

    async def app(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "http", "path": path, "client": (client, 1)}
    asyncio.run(FleetOnly(app)(scope, receive, send))
    assert answers[0]["status"] == status


def test_the_superlink_that_runs_has_the_wall(federation: Federation) -> None:
    """The wall stands in the running process: what it wraps is asked for from this machine."""
    program = (
        "from flwr.superlink import extensions, main\n"
        f"import {ROOM}.superlink as ours\n"
        "ours.flower_superlink = lambda: print([m.cls.__name__ for m in main._get_middleware()])\n"
        "ours.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **SWITCHES},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.startswith("['FleetOnly', ")
    del federation
