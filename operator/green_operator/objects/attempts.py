"""Entering into a job's books what its pods have said and how they ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from green_api.contract import JournalEntry, Mark

from green_operator.account.book import AttemptBook, Book
from green_operator.account.plausible import why_implausible
from green_operator.account.readings import Sample
from green_operator.objects.observed import PodRecord
from green_operator.plan.types import Outlook


@dataclass(frozen=True, slots=True)
class Word:
    """What a pod has said of its meters."""

    entries: tuple[JournalEntry, ...] = ()
    """Journal entries, of earlier attempts too."""
    current: JournalEntry | None = None
    """Its meters when it was last asked."""


Intensities = Callable[[str | None], Outlook | None]
"""What a zone's intensity was."""


def enter_attempts(
    book: Book,
    pods: Sequence[PodRecord],
    words: Mapping[str, Word],
    zones: Mapping[str, str | None],
    intensities: Intensities,
    now: datetime,
    interval: timedelta,
) -> None:
    """Bring the books up to what is known of a job's pods.

    Entering the same again changes nothing, so that it does not matter which part of it an earlier
    process had stored.

    Args:
        book: as the stored status has it.
        pods: all that are known, oldest first; deleted ones too until they are accounted for.
        words: by pod UID, what the pods said.
        zones: by pod UID, the grid zone of the pod's node.
        intensities: what a zone's intensity was.
        now: the moment.
        interval: between two journal entries: an end that nobody saw is taken at most so long
            after the last sign of life.

    """
    known = {pod.uid: pod for pod in pods}

    def end_all_but(uid: str) -> None:
        for attempt in book.latest:
            if attempt.end is None and attempt.uid != uid:
                _end(book, attempt, known.get(attempt.uid), intensities, now, interval)

    for pod in pods:
        if pod.started is not None:
            if book.attempt(pod.uid) is None:
                # An attempt is closed for good when newer ones push it out: not before its end.
                end_all_but(pod.uid)
            _enter_pod(book, pod, words.get(pod.uid, Word()), zones.get(pod.uid), intensities, now)
    end_all_but("")


def _enter_pod(
    book: Book,
    pod: PodRecord,
    word: Word,
    zone: str | None,
    intensities: Intensities,
    now: datetime,
) -> None:
    assert pod.started is not None  # noqa: S101 - the caller's check
    own = book.begin(pod.uid, pod.started, zone)
    if own is None:
        return
    summary = pod.summary()
    told = list(word.entries)
    if summary is not None:
        last_words = [*summary.kept, *([summary.final] if summary.final else [])]
        told += [
            e
            for e in last_words
            if not why_implausible(
                e, book.reserved, pod.metered_since(e.attempt, book.earliest), now
            )
        ]
    by_sequence = {entry.sequence: entry for entry in told if entry.sequence > book.sequence}
    for sequence, entry in sorted(by_sequence.items()):
        attempt = _attempt_of(book, entry, zone)
        if attempt is not None:
            sample = Sample(entry.time, entry.mark, tuple(entry.counters))
            book.enter(attempt, sample, intensities(attempt.zone))
        book.sequence = sequence
    current = word.current
    if current is not None and own.end is None and current.time > own.last:
        sample = Sample(current.time, Mark.BOUNDARY, tuple(current.counters))
        book.enter(own, sample, intensities(own.zone))


def _attempt_of(book: Book, entry: JournalEntry, zone: str | None) -> AttemptBook | None:
    """The attempt that an entry is about; one that nobody saw is opened, a closed one is left."""
    known = book.attempt(entry.attempt)
    if known is not None:
        return known
    # The reporting attempt is the newest and stands last: what it reports began before it.
    earlier = book.latest[-2] if len(book.latest) > 1 else None
    if earlier is not None and entry.time <= earlier.start:
        return None
    return book.insert_before_last(entry.attempt, entry.time, zone)


def _end(
    book: Book,
    attempt: AttemptBook,
    pod: PodRecord | None,
    intensities: Intensities,
    now: datetime,
    interval: timedelta,
) -> None:
    if pod is not None and not pod.is_over:
        return
    unseen = min(now, attempt.last if attempt.told_end else attempt.last + interval)
    end = pod.ended if pod is not None and pod.ended is not None else unseen
    succeeded = pod is not None and pod.exit_code == 0
    book.end(attempt, end, succeeded=succeeded, intensity=intensities(attempt.zone))
