"""``kubectl green logs`` and ``fetch`` where no kubelet runs: what is refused, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from green_api.config import OperatorConfig
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.objects.run import run_job

from tests.cluster.harness.client import GREEN_JOBS, JOBS, NAMESPACES, PODS, Client, Object
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.waiting import wait_for

PROGRAM = Path(sys.executable).with_name("kubectl-green")
PATTERN = "app.kubernetes.io/component=reader"


class Author:
    """Somebody at a terminal with rights in one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str, kubeconfig: Path, folder: Path) -> None:
        self.plane = plane
        self.admin: Client = plane.admin
        self.namespace = namespace
        self._kubeconfig = kubeconfig
        self.folder = folder
        self.folder.mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        path = f"{self.plane.programs['kubectl'].parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "KUBECONFIG": str(self._kubeconfig)}
        return subprocess.Popen(
            [str(PROGRAM), *arguments, "-n", self.namespace],
            env=environment, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def error(self, *arguments: str) -> str:
        with self.start(*arguments) as process:
            return ended(process)

    @property
    def helpers(self) -> list[Object]:
        return self.admin.list(PODS, self.namespace, labels=PATTERN)

    @contextmanager
    def helper_of(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Object]]:
        """A command that waits for its helper pod, and that pod."""
        with self.start(*arguments) as process:
            try:
                wait_for(lambda: self.helpers, what="the helper pod is made")
                (pod,) = self.helpers
                yield process, pod
            finally:
                process.kill()

    def set_status(self, pod: Object, **status: Any) -> None:
        self.admin.patch_status(PODS, pod["metadata"]["name"], status, self.namespace)

    def add_job(self, *, claim: str | None = "models", started: bool = True) -> None:
        """A job as its author applies it, with a status and a run as the operator writes them."""
        spec: Object = {
            "task": {"train": {"command": ["python", "train.py"]}},
            "schedule": {"policy": "Immediately"},
        }
        if claim is not None:
            spec["storage"] = {"claimName": claim}
        job = {
            "apiVersion": "greentraining.io/v1alpha1",
            "kind": "GreenTrainingJob",
            "metadata": {"name": "tune", "namespace": self.namespace},
            "spec": spec,
        }
        stored = self.admin.create(job)
        if not started:
            return
        parsed = GreenTrainingJob.parse(stored, "test")
        run = self.admin.create(run_job(parsed, 1, OperatorConfig.parse({}, "test"), DEFAULT_POWER))
        status = {
            "state": "Running",
            "startTime": "2026-06-01T00:00:00Z",
            "run": {"number": 1, "name": run["metadata"]["name"], "attempts": 1},
        }
        self.admin.patch_status(GREEN_JOBS, "tune", status, self.namespace)


def ended(process: subprocess.Popen[str]) -> str:
    """The one line in which a command says what is wrong."""
    printed, errors = process.communicate(timeout=150)
    assert process.returncode == 1, printed + errors
    assert printed == ""
    (line,) = errors.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture
def make_author(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Callable[..., Author]:
    """Makes somebody with such rights, in a namespace that enforces the level restricted."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.admin.patch(NAMESPACES, namespace, {"metadata": {"labels": labels}})

    def make(rules: Sequence[Object] = RIGHTS) -> Author:
        kubeconfig = control_plane.kubeconfig_for("author", namespace, rules)
        return Author(control_plane, namespace, kubeconfig, tmp_path / "here")

    return make


READ = [
    {"apiGroups": ["greentraining.io"], "resources": ["greentrainingjobs"], "verbs": ["get"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]},
]
RIGHTS = [
    *READ,
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "delete"]},
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]},
]
"""As the guide has them."""


def test_it_is_said_why_there_is_nothing_to_read(make_author: Callable[..., Author]) -> None:
    author = make_author()
    author.add_job(started=False)
    assert "has not started: nothing of it is on the claim yet" in author.error("logs", "tune")
    author.admin.delete(GREEN_JOBS, "tune", author.namespace)
    author.add_job(claim=None)
    said = author.error("fetch", "tune")
    assert "has no claim (spec.storage)" in said
    assert f"kubectl logs -n {author.namespace} -l greentraining.io/job=tune" in said
    said = author.error("logs", "tune", "--role", "north")
    assert said == "--role: 'north': job 'tune' has no such role: it has no roles"
    assert author.helpers == []


def test_a_run_that_was_deleted_by_hand_is_told(make_author: Callable[..., Author]) -> None:
    author = make_author()
    author.add_job()
    (run,) = author.admin.list(JOBS, author.namespace)
    author.admin.delete(JOBS, run["metadata"]["name"], author.namespace)
    said = author.error("logs", "tune")
    assert f"the Job {run['metadata']['name']} of the run is gone" in said
    assert "claim 'models'" in said


def test_who_may_not_create_pods_is_told_so(make_author: Callable[..., Author]) -> None:
    author = make_author(READ)
    author.add_job()
    said = author.error("logs", "tune")
    assert said.startswith("the helper pod that reads the claim cannot be created: you lack the")
    assert "pods" in said


def test_a_helper_that_cannot_start_says_why_and_is_deleted(
    make_author: Callable[..., Author],
) -> None:
    author = make_author()
    author.add_job()
    waiting = {"reason": "ImagePullBackOff", "message": "image of a test: not to be had"}
    container = {"name": "reader", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
    with author.helper_of("logs", "tune") as (process, pod):
        author.set_status(pod, containerStatuses=[{**container, "state": {"waiting": waiting}}])
        said = ended(process)
    assert "cannot start: image of a test: not to be had" in said
    assert author.helpers == []


def test_a_helper_that_outlived_its_deadline_is_told_and_deleted(
    make_author: Callable[..., Author],
) -> None:
    author = make_author()
    author.add_job()
    with author.helper_of("fetch", "tune") as (process, pod):
        author.set_status(pod, phase="Failed", reason="DeadlineExceeded")
        assert "ended: DeadlineExceeded" in ended(process)
    assert author.helpers == []
    assert list(author.folder.iterdir()) == [], "nothing half is left here"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_interrupts_leaves_no_helper_behind(
    make_author: Callable[..., Author], number: signal.Signals
) -> None:
    author = make_author()
    author.add_job()
    with author.helper_of("fetch", "tune") as (process, _):
        process.send_signal(number)
        process.communicate(timeout=150)
        assert process.returncode != 0
    assert author.helpers == []
    assert list(author.folder.iterdir()) == []


def test_a_folder_that_is_there_already_is_kept(make_author: Callable[..., Author]) -> None:
    author = make_author()
    author.add_job()
    (author.folder / "tune").mkdir()
    (author.folder / "tune" / "mine").write_text("kept")
    assert "--output: 'tune': is there already" in author.error("fetch", "tune")
    assert (author.folder / "tune" / "mine").read_text() == "kept"
    assert author.helpers == []
