"""The work queue: one worker per key, nothing that is due is ever lost."""

from __future__ import annotations

import asyncio
import random

from green_operator.cluster.queue import WorkQueue
from hypothesis import given
from hypothesis import strategies as st


def test_a_key_is_handed_out_once_however_often_it_is_added() -> None:
    async def scene() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for _ in range(3):
            queue.add("a")
        assert await queue.get() == "a"
        assert len(queue) == 0

    asyncio.run(scene())


def test_it_is_idle_only_where_nothing_is_due_or_worked_on() -> None:
    async def scene() -> None:
        queue: WorkQueue[str] = WorkQueue()
        assert queue.is_idle
        queue.add("a")
        assert not queue.is_idle
        await queue.get()
        assert len(queue) == 0
        assert not queue.is_idle
        queue.done("a")
        assert queue.is_idle
        queue.add_after("a", 60)
        assert queue.is_idle

    asyncio.run(scene())


def test_a_key_that_is_added_while_it_is_worked_on_comes_again_and_only_then() -> None:
    async def scene() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await asyncio.wait_for(queue.get(), 1) == "a"

    asyncio.run(scene())


def test_later_keys_come_when_they_are_due_and_sooner_if_added() -> None:
    now = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now)

    async def scene() -> None:
        nonlocal now
        queue.add_after("late", 100)
        queue.add_after("soon", 10)
        queue.add_after("soon", 50)
        queue.add("at once")
        assert await queue.get() == "at once"
        now = 10.0
        assert await queue.get() == "soon"
        queue.add("late")
        assert await queue.get() == "late"
        queue.done("late")
        now = 1000.0
        queue.add("end")
        assert await queue.get() == "end"
        assert len(queue) == 0

    asyncio.run(scene())


def test_how_long_the_oldest_is_due_counts_from_its_time_until_its_work_is_done() -> None:
    now = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now)

    async def scene() -> None:
        nonlocal now
        assert queue.oldest_seconds() == 0
        queue.add_after("late", 10)
        now = 4.0
        assert queue.oldest_seconds() == 0
        # No worker has looked since it became due.
        now = 15.0
        assert queue.oldest_seconds() == 5
        queue.add("new")
        queue.add("late")
        assert await queue.get() == "late"
        now = 20.0
        # Others come and go beside one that is not done.
        assert await queue.get() == "new"
        queue.done("new")
        assert queue.oldest_seconds() == 10
        queue.done("late")
        assert queue.oldest_seconds() == 0
        # What failed is due again only when it is tried again.
        queue.failed("late")
        assert queue.oldest_seconds() == 0

    asyncio.run(scene())


def test_failures_wait_longer_each_time_up_to_a_minute() -> None:
    now = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now)

    async def waits() -> list[float]:
        nonlocal now
        found = []
        queue.add("a")
        for _ in range(12):
            key = await queue.get()
            queue.failed(key)
            queue.done(key)
            began = now
            while not len(queue):
                now += 0.125
                queue._promote()
            found.append(now - began)
        return found

    found = asyncio.run(waits())
    assert found[:4] == [0.25, 0.5, 1.0, 2.0]
    assert found[-1] == 60.0
    assert found == sorted(found)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 8))
def test_every_change_is_followed_by_a_look_and_no_key_has_two_workers(
    seed: int, keys: int, workers: int
) -> None:
    """A worker sees the value as it is when it begins; the last look sees the last value."""
    chance = random.Random(seed)

    async def scene() -> None:
        queue: WorkQueue[int] = WorkQueue()
        value = dict.fromkeys(range(keys), 0)
        looked = dict.fromkeys(range(keys), 0)
        at_work: set[int] = set()

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in at_work
                at_work.add(key)
                seen = value[key]
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                looked[key] = seen
                at_work.discard(key)
                queue.done(key)

        crew = [asyncio.create_task(work()) for _ in range(workers)]
        for number in range(1, 60):
            key = chance.randrange(keys)
            value[key] = number
            queue.add(key)
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert looked == value
        for worker in crew:
            worker.cancel()
        await asyncio.gather(*crew, return_exceptions=True)

    asyncio.run(scene())
