"""A work queue of keys: one worker per key at a time, due times, backoff after failures."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_FIRST_BACKOFF_SECONDS: Final = 0.25
_LONGEST_BACKOFF_SECONDS: Final = 60.0
_SHELLS: Final = 1_000


class WorkQueue(Generic[Key]):
    """Keys that are due, in the order in which they became so.

    A key that is added while a worker has it is due again when the worker is done. One heap holds
    all later times; there is no timer per key.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        # Since when each is due, and stays so while a worker has it.
        self._due: dict[Key, float] = {}
        self._working: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._later: list[tuple[float, int, Key]] = []
        self._at: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._count = 0
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._due)

    @property
    def is_idle(self) -> bool:
        """Nothing is due, and nothing is being worked on."""
        return not self._due and not self._working

    def oldest_seconds(self) -> float:
        """For how long the longest has been due and is not done; 0 where none is."""
        self._promote()
        since = min([*self._due.values(), *self._working.values()], default=None)
        return 0.0 if since is None else self._clock() - since

    def add(self, key: Key) -> None:
        """The key is due now."""
        self._add(key, self._clock())

    def add_after(self, key: Key, seconds: float) -> None:
        """The key is due in so many seconds, or sooner if it already is."""
        at = self._clock() + max(seconds, 0.0)
        if key in self._due or self._at.get(key, float("inf")) <= at:
            return
        self._at[key] = at
        self._count += 1
        heapq.heappush(self._later, (at, self._count, key))
        if len(self._later) > 2 * len(self._at) + _SHELLS:
            # Most entries are shells of times that were superseded.
            self._later = [entry for entry in self._later if self._at.get(entry[2]) == entry[0]]
            heapq.heapify(self._later)
        self._wake()

    def failed(self, key: Key) -> None:
        """The key's work failed: it is due again after a time that doubles."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(_FIRST_BACKOFF_SECONDS * 2**failures, _LONGEST_BACKOFF_SECONDS))

    def succeeded(self, key: Key) -> None:
        """The key's work went well: the next failure begins with the shortest backoff."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key that is due; ``done`` has to follow."""
        while True:
            self._promote()
            if self._due:
                key = next(iter(self._due))
                self._working[key] = self._due.pop(key)
                if self._due:
                    self._wake()
                return key
            await self._sleep()

    def done(self, key: Key) -> None:
        """The worker has left the key."""
        self._working.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _add(self, key: Key, since: float) -> None:
        self._at.pop(key, None)
        if key in self._working:
            self._again.add(key)
        elif key not in self._due:
            self._due[key] = since
            self._wake()

    def _promote(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            # An entry that was superseded by an earlier or immediate one is only a shell.
            if self._at.get(key) == at:
                self._add(key, at)

    async def _sleep(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timeout = max(self._later[0][0] - self._clock(), 0.0) if self._later else None
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            pass
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        """Wake one waiting worker: waking all of them costs more than the work."""
        while self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
