"""Faults between a client and the API server, and what the audit log says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from tests.cluster.harness.audit import Access, service_account_user
from tests.cluster.harness.client import CONFIG_MAPS, PODS, SECRETS, ApiError, Client
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import ROOT
from tests.cluster.harness.proxy import Action, ApiProxy
from tests.cluster.harness.waiting import wait_for

RULES = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "watch", "patch"]},
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
]
DROPPED = (urllib3.exceptions.HTTPError, OSError)


@pytest.fixture
def client(control_plane: ControlPlane, namespace: str, proxy: ApiProxy) -> Iterator[Client]:
    """A service account behind the proxy."""
    path = control_plane.kubeconfig_for("someone", namespace, RULES, server=proxy.url)
    someone = Client.from_kubeconfig(path)
    someone._timeout = 2
    yield someone
    someone.close()


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def test_requests_pass_as_they_are_and_writes_are_counted(
    client: Client, namespace: str, proxy: ApiProxy
) -> None:
    big = config_map("big") | {"data": {"text": "x" * 500_000}}
    client.create(big, namespace)
    assert client.get(CONFIG_MAPS, "big", namespace)["data"] == big["data"]
    client.patch(CONFIG_MAPS, "big", {"data": {"more": "y"}}, namespace)
    assert [r.number for r in proxy.requests] == [1, 0, 2]
    assert [r.shape for r in proxy.writes] == [
        "POST /api/v1/namespaces/*/configmaps",
        "PATCH /api/v1/namespaces/*/configmaps/*",
    ]


def test_watches_are_streamed_and_can_be_dropped(
    client: Client, namespace: str, proxy: ApiProxy
) -> None:
    seen: list[str] = []

    def watch() -> None:
        try:
            for kind, item in client.watch(CONFIG_MAPS, namespace):
                if kind != "BOOKMARK":
                    seen.append(item["metadata"]["name"])
        except (ApiError, *DROPPED) as error:
            seen.append("dropped" if isinstance(error, DROPPED) else str(error))

    watcher = threading.Thread(target=watch)
    watcher.start()
    client.create(config_map("a"), namespace)
    wait_for(lambda: "a" in seen, 5, "the first event", seen=lambda: seen)
    client.create(config_map("b"), namespace)
    wait_for(lambda: "b" in seen, what="the second event")
    assert proxy.drop_watches() == 1
    watcher.join(10)
    assert seen[-1] == "dropped"


def test_a_silent_watch_says_nothing(client: Client, namespace: str, proxy: ApiProxy) -> None:
    fault = proxy.inject(Action.SILENT_WATCH, when=lambda r: r.is_watch)
    client.create(config_map("a"), namespace)
    events: list[Any] = []

    def watch() -> None:
        try:
            events.extend(client.watch(CONFIG_MAPS, namespace))
        except DROPPED:
            events.append("dropped")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wait_for(lambda: fault.hits, what="the watch")
    time.sleep(0.3)
    assert events == []
    proxy.drop_watches()
    watcher.join(10)
    assert events == ["dropped"]


@pytest.mark.parametrize("status", [409, 410, 429, 500])
@pytest.mark.parametrize("action", [Action.ANSWER, Action.ANSWER_AFTER])
def test_answers_of_its_own(
    admin: Client, client: Client, namespace: str, proxy: ApiProxy, action: Action, status: int
) -> None:
    proxy.inject(action, status=status, retry_after=1)
    with pytest.raises(ApiError) as caught:
        client.create(config_map("a"), namespace)
    assert caught.value.status == status
    assert "injected" in caught.value.message
    exists = admin.find(CONFIG_MAPS, "a", namespace) is not None
    assert exists == (action is Action.ANSWER_AFTER)
    client.create(config_map("b"), namespace)


@pytest.mark.parametrize("action", [Action.DROP, Action.DROP_AFTER, Action.HANG, Action.HANG_AFTER])
def test_no_answer(
    admin: Client, client: Client, namespace: str, proxy: ApiProxy, action: Action
) -> None:
    proxy.inject(action, skip=1)
    client.create(config_map("a"), namespace)
    with pytest.raises(DROPPED):
        client.create(config_map("b"), namespace)
    exists = admin.find(CONFIG_MAPS, "b", namespace) is not None
    assert exists == action.name.endswith("_AFTER")
    client.create(config_map("c"), namespace)


@pytest.mark.parametrize("after", [False, True])
def test_a_process_is_killed_at_a_write(
    admin: Client, client: Client, namespace: str, proxy: ApiProxy, after: bool
) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    fault = proxy.kill_at(2, lambda: victim.pid, after=after)
    client.create(config_map("a"), namespace)
    with pytest.raises(DROPPED):
        client.create(config_map("b"), namespace)
    assert victim.wait(5) == -signal.SIGKILL
    assert (admin.find(CONFIG_MAPS, "b", namespace) is not None) == after
    assert [hit.number for hit in fault.hits] == [2]


def test_the_audit_log_tells_use_from_permission(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    user = service_account_user(namespace, "someone")
    client.create(config_map("a"), namespace)
    with pytest.raises(ApiError) as caught:
        client.list(SECRETS, namespace)
    assert caught.value.status == 403
    comparison = control_plane.audit.compare(user, RULES)
    assert comparison.denied == {Access("list", "", "secrets")}
    assert Access("patch", "", "pods/status") in comparison.unused
    assert Access("create", "", "configmaps") not in comparison.unused
    here = control_plane.audit.position
    assert control_plane.audit.events(user, since=here) == []


def test_the_api_server_goes_and_comes_back(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    client.create(config_map("a"), namespace)
    with control_plane.without_apiserver(), pytest.raises(DROPPED):
        client.get(CONFIG_MAPS, "a", namespace)
    assert client.get(CONFIG_MAPS, "a", namespace)
    with control_plane.apiserver.paused(), pytest.raises(DROPPED):
        client.get(CONFIG_MAPS, "a", namespace)
    assert control_plane.admin.list(PODS, namespace) == []


def test_no_process_outlives_a_killed_session(control_plane: ControlPlane, tmp_path: Path) -> None:
    program = f"""
import sys, time, pathlib
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import Programs
paths = { ({k: str(v) for k, v in control_plane.programs.paths.items()})!r}
programs = Programs("x", {{k: pathlib.Path(v) for k, v in paths.items()}})
plane = ControlPlane(programs, pathlib.Path({str(tmp_path)!r}))
plane.start()
print(plane.etcd.pid, plane.apiserver.pid, plane.controller_manager.pid, flush=True)
time.sleep(60)
"""
    session = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdout is not None
    pids = [int(pid) for pid in session.stdout.readline().split()]
    assert len(pids) == 3
    session.kill()
    session.wait()
    session.stdout.close()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 10, "no process")
