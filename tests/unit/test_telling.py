"""What is worth a write, what is worth an event, and entering the same twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from green_api.base import Provenance
from green_api.contract import Component, Counter, JournalEntry, Mark, Method, Outcome, Summary
from green_api.status import EnergyStatus, JobStatus, State
from green_api.units import Power
from green_operator.account.book import Book
from green_operator.account.statement import statement_of
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.events import transitions
from green_operator.lifecycle.significance import is_significant
from green_operator.objects.attempts import Word, enter_attempts
from green_operator.objects.observed import PodRecord
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import T0, hours, outlook
from tests.unit.test_decide import a_snapshot

MINUTE = timedelta(minutes=1)


def waiting() -> JobStatus:
    return decide(a_snapshot()).status


def test_a_status_that_says_the_same_is_not_written_and_not_told() -> None:
    status = waiting()
    assert is_significant(None, status, None)
    assert not is_significant(status, status, None)
    assert transitions(status, status) == []


def test_figures_alone_are_written_every_five_minutes() -> None:
    status = waiting()
    more = status.model_copy(update={"energy": EnergyStatus(joules=5, estimated_joules=5)})
    assert not is_significant(status, more, MINUTE)
    assert is_significant(status, more, 5 * MINUTE)
    assert transitions(status, more) == []


def test_each_transition_is_told_once() -> None:
    status = waiting()
    planned = transitions(None, status)
    assert [e.reason for e in planned] == ["Planned"]
    running = status.model_copy(update={"state": State.RUNNING})
    assert [e.reason for e in transitions(status, running)] == ["Started"]
    suspended = decide(a_snapshot(started=hours(0), previous=running)).status
    assert [e.reason for e in transitions(running, suspended)] == ["Suspended"]
    assert [e.reason for e in transitions(suspended, running)] == ["Resumed"]
    failed = status.model_copy(update={"state": State.FAILED})
    (event,) = transitions(running, failed)
    assert (event.type, event.reason) == ("Warning", "Failed")


POD = PodRecord(
    namespace="team-a", name="pod", uid="a", resource_version="1", job="shrink", owner_uid="run",
    created=T0, phase="Running", ip="10.0.0.1", host_network=False, node="n", deleted=None,
    started=T0, ended=None, exit_code=None, termination="", waiting=("", ""),
)  # fmt: skip


def entry(sequence: int, at: float, joules: float, mark: Mark, attempt: str = "a") -> JournalEntry:
    counter = Counter(
        component=Component.GPU, provenance=Provenance.MEASURED, method=Method.NVML_COUNTER,
        joules=joules,
    )  # fmt: skip
    return JournalEntry(
        sequence=sequence, attempt=attempt, time=hours(at), mark=mark, counters=[counter]
    )


def enter(book: Book, pods: list[PodRecord], words: dict[str, Word], at: float) -> None:
    grams = outlook([100.0] * 48)
    enter_attempts(
        book,
        pods,
        words,
        dict.fromkeys(words, "gb"),
        lambda _: grams,
        hours(at),
        timedelta(hours=1),
    )


told = st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(0, 500)), min_size=1, max_size=10)


@given(told, st.data())
def test_entering_again_what_was_stored_changes_nothing(
    rises: list[tuple[float, float]], data: st.DataObject
) -> None:
    """A killed operator hears again what it had stored; parts of it, or all of it."""
    at, joules, entries = 0.0, 0.0, []
    for sequence, (gap, rise) in enumerate(rises, start=1):
        at, joules = at + gap, joules + rise
        entries.append(entry(sequence, at, joules, Mark.BOUNDARY))
    once, often = Book(Power(1000.0), T0), Book(Power(1000.0), T0)
    enter(once, [POD], {"a": Word(tuple(entries))}, at)
    for _ in range(data.draw(st.integers(1, 4))):
        known = data.draw(st.integers(0, len(entries)))
        enter(often, [POD], {"a": Word(tuple(entries[:known]))}, at)
        often = Book.from_status(often.to_status(), Power(1000.0), T0)
    enter(often, [POD], {"a": Word(tuple(entries))}, at)
    assert often.to_status() == once.to_status()
    assert statement_of(often).energy.joules == round(joules * 1000) / 1000


def test_an_attempt_that_nobody_saw_is_told_by_the_next() -> None:
    book = Book(Power(100.0), T0)
    second = replace(POD, uid="b", started=hours(3))
    entries = (
        entry(1, 0.5, 10, Mark.STARTED, "a"),
        entry(2, 1.5, 700, Mark.ENDED, "a"),
        entry(3, 3.5, 50, Mark.WORKING, "b"),
    )
    enter(book, [second], {"b": Word(entries)}, 4)
    assert [a.uid for a in book.latest] == ["a", "b"]
    assert book.attempts == 2
    assert statement_of(book).energy.joules == 750


def test_energy_that_cannot_be_is_not_believed_in_a_summary_either() -> None:
    summary = Summary(
        attempt="a", outcome=Outcome.SUCCEEDED, message="", final=entry(9, 1, 1e12, Mark.ENDED)
    )
    pod = replace(POD, ended=hours(1), exit_code=0,
                  termination=summary.model_dump_json(by_alias=True, exclude_none=True))  # fmt: skip
    book = Book(Power(100.0), T0)
    enter(book, [pod], {}, 2)
    # What is left is the estimate of an attempt that said nothing.
    assert statement_of(book).energy.joules == 100.0 * 3600


def test_a_short_attempt_cannot_claim_what_the_job_could_have_drawn_while_it_waited() -> None:
    """It waited a week. What an earlier attempt has drawn meanwhile may be as much as that."""
    week = 24.0 * 7
    claimed = 100.0 * 3600 * week
    for attempt, believed in (("a", False), ("earlier", True)):
        summary = Summary(
            attempt="a", outcome=Outcome.SUCCEEDED, message="",
            final=entry(1, week + 0.02, claimed, Mark.BOUNDARY, attempt),
        )  # fmt: skip
        pod = replace(POD, started=hours(week), ended=hours(week + 0.02), exit_code=0,
                      termination=summary.model_dump_json(by_alias=True, exclude_none=True))  # fmt: skip
        book = Book(Power(100.0), T0)
        enter(book, [pod], {}, week + 1)
        assert (statement_of(book).energy.joules >= claimed) is believed


def failed(number: int) -> PodRecord:
    """Ten minutes at a time, an hour apart."""
    start = hours(number)
    return replace(POD, uid=f"pod-{number}", started=start, ended=start + 10 * MINUTE, exit_code=1)


@given(st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_however_many_pods_are_kept_each_counts_once(
    pods: int, looks: int, through_a_status: bool
) -> None:
    """Failed pods stay until their Job goes, and a standby may have seen them all before."""
    book = Book(Power(100.0), T0)
    for look in range(looks):
        known = [failed(n) for n in range(min(pods, look + 1) if look % 2 else pods)]
        enter(book, known, {}, 48)
        if through_a_status:
            book = Book.from_status(book.to_status(), Power(100.0), T0)
    assert book.attempts == pods
    assert statement_of(book).energy.joules == pods * 600 * 100.0
    assert book.active_time(hours(48)) == pods * 10 * MINUTE
