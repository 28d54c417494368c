"""The machine's zone while jobs run: its live sources are asked in a thread of their own.

The runner's loop never waits for a provider: it reads what is known. What was observed is kept in
the output folder, so that a run which goes on days later can still account for its first hours.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from green_api.zone import GridZone

from green_operator.feeds.client import Client, open_session
from green_operator.feeds.providers import Endpoints
from green_operator.feeds.zone_feeds import ZoneFeeds
from green_operator.local.files import replace_file
from green_operator.sources.history import EMPTY, History, pack, read_history
from green_operator.sources.zones import Resolution

_LEAST_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LocalReferences:
    """What stands for a cluster's ConfigMaps and Secrets on one machine.

    Args:
        trace: the file of the zone's trace, whatever its ConfigMap is called.
        secrets: by name and key.

    """

    trace: Path | None
    secrets: Mapping[tuple[str, str], str] = field(repr=False)

    async def read_config_map(self, name: str, key: str) -> bytes | None:
        """The trace's file as it is now."""
        del name, key
        return None if self.trace is None else await asyncio.to_thread(self.trace.read_bytes)

    async def read_secret(self, name: str, key: str) -> str | None:
        """What was given for it on the command line."""
        return self.secrets.get((name, key))


class LiveZone:
    """Keeps what is known of one zone while it is entered; it answers afterwards too.

    Args:
        zone: the zone.
        references: what its sources refer to.
        endpoints: where the providers are.
        history: the file that keeps what was observed; None keeps nothing.
        wall: the time now.

    """

    def __init__(
        self,
        zone: GridZone,
        references: LocalReferences,
        endpoints: Endpoints,
        history: Path | None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.problem = ""
        """Why the file of what was observed cannot be read; "" where it can."""
        self._zone = zone
        self._references = references
        self._endpoints = endpoints
        self._history = history
        self._saved: History = EMPTY
        self._wall = wall
        self._feeds: ZoneFeeds | None = None
        self._generation = 0
        self._answered = threading.Event()
        self._ready = threading.Event()
        self._cancel: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._work, name="zone", daemon=True)

    def __enter__(self) -> Self:
        self._saved = self._load()
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        # The loop is closed already where the thread ended by a mistake of its own.
        with suppress(RuntimeError):
            self._cancel()
        self._thread.join()

    def wait(self, seconds: float) -> bool:
        """Wait for the first answers; whether all sources were asked in time."""
        return self._answered.wait(seconds)

    @property
    def generation(self) -> int:
        """Another one each time that sources were asked."""
        return self._generation

    def resolve(self, start: datetime, now: datetime, end: datetime) -> Resolution:
        """What is known of the zone in [start, end)."""
        assert self._feeds is not None  # noqa: S101 - it is set on entering
        return self._feeds.resolution(self._zone.metadata.name, start, now, end)

    def _work(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                asyncio.run(self._refresh_forever())
        finally:
            self._ready.set()
            self._answered.set()

    async def _refresh_forever(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        async with open_session(self._endpoints.public_hosts) as session:
            feeds = ZoneFeeds(Client(session), self._references, self._endpoints)
            name = self._zone.metadata.name
            feeds.set_zones([self._zone], {name: self._saved})
            self._feeds = feeds
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel) if task else None
            self._ready.set()
            while True:
                await feeds.refresh(self._wall())
                self._save(feeds.history(name))
                self._generation += 1
                self._answered.set()
                await asyncio.sleep(self._pause(feeds.next_poll()))

    def _pause(self, next_poll: datetime | None) -> float:
        """Seconds to the next poll."""
        assert next_poll is not None  # noqa: S101 - the zone has a live source
        return max((next_poll - self._wall()).total_seconds(), _LEAST_PAUSE_SECONDS)

    def _load(self) -> History:
        if self._history is None or not self._history.exists():
            return EMPTY
        history, self.problem = read_history(self._history.read_bytes())
        return history

    def _save(self, history: History) -> None:
        if self._history is None or history == self._saved:
            return
        # A full disk stops the runner, which says so; the thread goes on asking until then.
        with suppress(OSError):
            replace_file(self._history, pack(history))
            self._saved = history
