"""How pods ended: watched, for a suspension deletes them."""

from __future__ import annotations

import threading
from contextlib import suppress

import urllib3

from tests.cluster.harness.client import PODS, ApiError, Client, Object


class PodHistory:
    """The last that was seen of each pod of a namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._seen: dict[str, Object] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()

    def of(self, job: str) -> list[Object]:
        """A job's pods, oldest first."""
        pods = [p for p in list(self._seen.values()) if _label(p) == job]
        return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def exit_codes(self, job: str) -> list[int | None]:
        """Of a job's pods, oldest first; None where none was seen."""
        return [_exit_code(pod) for pod in self.of(job)]

    def _watch(self) -> None:
        version = "0"
        while not self._is_over.is_set():
            try:
                for kind, pod in self._client.watch(PODS, self._namespace, version=version):
                    version = pod["metadata"]["resourceVersion"]
                    if kind in {"ADDED", "MODIFIED", "DELETED"}:
                        self._seen[pod["metadata"]["uid"]] = pod
                    if self._is_over.is_set():
                        return
            except ApiError:
                version = "0"
            except (OSError, urllib3.exceptions.HTTPError):
                with suppress(TimeoutError):
                    self._is_over.wait(1)


def _label(pod: Object) -> str:
    return str(pod["metadata"].get("labels", {}).get("greentraining.io/job", ""))


def _exit_code(pod: Object) -> int | None:
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if (ended := status.get("state", {}).get("terminated")) is not None:
            return int(ended["exitCode"])
    return None
