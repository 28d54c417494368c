"""What the server says of pods, whatever becomes of its connection."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

import urllib3

from tests.cluster.harness.client import PODS, ApiError, Client, Object

UNREACHABLE: Final = (OSError, urllib3.exceptions.HTTPError)
Event = tuple[str, Object]
"""MODIFIED or DELETED, and the object."""


class PodFeed:
    """Lists and watches pods with a label, in a thread of its own.

    Args:
        client: an administrator's.
        label: its key.
        namespaces: whose pods are taken; None is all.
        wake: set whenever there is something to take.

    """

    def __init__(
        self,
        client: Client,
        label: str,
        namespaces: Collection[str] | None,
        wake: threading.Event,
    ) -> None:
        self._client = client
        self._label = label
        self._namespaces = namespaces
        self._wake = wake
        self._known: dict[str, Object] = {}
        self._inbox: list[Event] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="pod-feed", daemon=True).start()

    def stop(self) -> None:
        """Take no more in; the thread ends with its watch."""
        self._stopped.set()

    def take(self) -> list[Event]:
        """What came since the last time."""
        with self._lock:
            inbox, self._inbox = self._inbox, []
        return inbox

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                version = self._list()
                while not self._stopped.is_set():
                    version = self._follow(version)
            except (ApiError, ValueError, KeyError, AttributeError, *UNREACHABLE):
                self._stopped.wait(0.2)  # the server is away; the next list says what was missed

    def _list(self) -> str:
        listed = self._client.request("GET", PODS.path(), query={"labelSelector": self._label})
        present = {item["metadata"]["uid"]: item for item in listed["items"]}
        for uid in set(self._known) - set(present):
            self._note("DELETED", self._known[uid])
        for item in present.values():
            self._note("MODIFIED", item)
        return str(listed["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> str:
        for kind, item in self._client.watch(PODS, labels=self._label, version=version):
            if self._stopped.is_set():
                break
            version = item["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                self._note("DELETED" if kind == "DELETED" else "MODIFIED", item)
        return version

    def _note(self, kind: str, item: Object) -> None:
        uid, namespace = item["metadata"]["uid"], item["metadata"]["namespace"]
        if self._namespaces is not None and namespace not in self._namespaces:
            return
        if kind == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = item
        with self._lock:
            self._inbox.append((kind, item))
        self._wake.set()
