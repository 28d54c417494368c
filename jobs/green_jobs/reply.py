"""The answer to a question about progress, within its bounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate, takewhile

from green_api.contract import (
    MAX_REPLY_BYTES,
    MAX_REPLY_ENTRIES,
    JournalEntry,
    Progress,
    ProgressReply,
)


def build_reply(
    *,
    attempt: str,
    time: datetime,
    progress: Progress,
    current: JournalEntry,
    entries: Sequence[JournalEntry],
) -> ProgressReply:
    """A reply with as many of the entries, oldest first, as its bounds allow."""
    empty = ProgressReply(
        attempt=attempt, time=time, progress=progress, current=current, entries=[], more=False
    )
    room = MAX_REPLY_BYTES - _size(empty)
    # One separator each.
    sums = accumulate(_size(entry) + 1 for entry in entries[:MAX_REPLY_ENTRIES])
    count = len(list(takewhile(lambda total: total <= room, sums)))
    return empty.model_copy(update={"entries": entries[:count], "more": count < len(entries)})


def _size(model: JournalEntry | ProgressReply) -> int:
    return len(model.model_dump_json(by_alias=True, exclude_none=True).encode())
