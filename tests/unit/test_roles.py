"""A job of several roles: its books, its run seen as one, what it says of each."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from green_api.contract import Outcome, Progress, Result, RoundsProgress, SiteProgress, Summary
from green_api.federate import SERVER
from green_api.status import (
    ConditionType,
    JobStatus,
    RoleAccountStatus,
    RoleState,
    RoleStatus,
    State,
)
from green_api.units import Power
from green_operator.account.roles import accounts_of, books_of, sum_of
from green_operator.account.statement import Statement, state_account, statement_of
from green_operator.cli.roles import roles_parts
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.events import transitions
from green_operator.lifecycle.roles import run_of_roles
from green_operator.lifecycle.significance import is_significant
from green_operator.lifecycle.types import Obstacle, RoleView, RunEnd, RunView, Snapshot
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.unit.factories import T0, attempt, hours, job, outlook, sample
from tests.unit.test_decide import a_run, a_snapshot, condition, done

FEDERATE = {
    "model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits"}, "rounds": 4,
    "sites": [{"name": n, "claimName": f"data-{n}", "zone": f"z-{n}"} for n in ("a", "b")],
}  # fmt: skip
POWER = {SERVER: Power(100), "a": Power(200), "b": Power(300)}
WORKING = a_run(active=1, running=1, suspend=False)

steps = st.lists(st.floats(0, 1e5), min_size=1, max_size=5)


def statement(role: str, rises: list[float], grams: float) -> Statement:
    total, samples = 0.0, []
    for at, rise in enumerate(rises, start=1):
        total += rise
        samples.append(sample(at, total))
    record = attempt(0, len(rises), samples, ok=True, uid=role)
    return state_account([record], POWER[role], f"z-{role}", outlook([grams] * 24), T0)


@given(steps, steps, st.floats(0, 900))
def test_roles_add_up_each_in_its_own_zone(
    server: list[float], site: list[float], grams: float
) -> None:
    parts = [statement(SERVER, server, 100), statement("a", site, grams)]
    whole = sum_of(parts)
    assert whole.energy.joules == pytest.approx(sum(p.energy.joules for p in parts))
    assert whole.emissions.grams == pytest.approx(sum(p.emissions.grams for p in parts))
    assert whole.difference is not None
    assert whole.difference.grams == pytest.approx(0, abs=1e-6)
    assert whole.zone == "z-server"
    assert set(whole.zones) == {"z-server", "z-a"}


def test_a_counterfactual_that_is_not_known_of_one_role_is_not_known_of_the_job() -> None:
    dark = state_account([attempt(0, 1, [sample(1, 5.0)], ok=True)], POWER["a"], "z-a", None, T0)
    assert sum_of([statement(SERVER, [1.0], 100), dark]).difference is None


@given(st.dictionaries(st.sampled_from([SERVER, "a", "b"]), steps))
def test_books_by_role_survive_a_status(rises: dict[str, list[float]]) -> None:
    """Journal sequences are each role's own: the same ones in two roles do not meet."""
    books = books_of([], POWER, T0)
    for role, values in rises.items():
        total = 0.0
        for number in range(4):
            opened = books[role].begin(f"{role}-{number}", hours(number), f"z-{role}")
            assert opened is not None
            for place, value in enumerate(values, start=1):
                total += value
                at = number + place / (len(values) + 1)
                books[role].enter(opened, sample(at, total), outlook([100.0] * 9))
            books[role].sequence = 7
            books[role].end(opened, hours(number + 1), succeeded=False, intensity=None)
    carried = [RoleAccountStatus.model_validate(a.to_wire()) for a in accounts_of(books)]
    assert [a.role for a in carried] == [role for role in books if role in rises]
    again = books_of(carried, POWER, T0)
    for role, book in books.items():
        assert statement_of(again[role]) == statement_of(book)
        assert again[role].to_status() == book.to_status()


def test_a_site_keeps_fewer_attempts_open_than_the_server() -> None:
    books = books_of([], POWER, T0)
    for book in books.values():
        for number in range(5):
            book.begin(str(number), hours(number), None)
    assert [len(a.latest) for a in accounts_of(books)] == [3, 2, 2]


ends = st.sampled_from([None, RunEnd.COMPLETE, RunEnd.FAILED])
views = st.builds(
    lambda active, end: a_run(
        active=active, running=active, suspend=False, end=None if active else end,
        message="no data" if end is RunEnd.FAILED and not active else "",
    ),
    st.integers(0, 1), ends,
)  # fmt: skip


@given(views, views, views)
def test_a_run_of_roles_ends_as_its_server_does_and_not_before_all_are_gone(
    server: RunView, a: RunView, b: RunView
) -> None:
    run = run_of_roles({SERVER: server, "a": a, "b": b})
    assert run.active == server.active + a.active + b.active
    assert run.end == (server.end if a.active + b.active == 0 else None)
    assert run.closing == (server.end if a.active + b.active > 0 else None)
    assert ("a failed" in run.lost) == (a.end is RunEnd.FAILED)
    assert run.message == server.message


def federated(**changes: object) -> Snapshot:
    parts = {SERVER: WORKING, "a": WORKING, "b": WORKING, **changes.pop("parts", {})}  # type: ignore[dict-item]
    roles = tuple(RoleView(name, view, f"z-{name}", None) for name, view in parts.items())
    fields = {"run": run_of_roles(parts), "roles": roles, "now": hours(5), "started": hours(5)}
    return replace(a_snapshot(job=job(task={"federate": FEDERATE})), **(fields | changes))  # type: ignore[arg-type]


def rows(status: JobStatus) -> dict[str, RoleStatus]:
    assert status.roles is not None
    return {row.name: row for row in status.roles}


def progress(stalled: str = "") -> Progress:
    return Progress(
        rounds=RoundsProgress(
            rounds=2, accuracy=0.8, stalled=stalled,
            sites=[
                SiteProgress(name="a", rounds=2, bytes=100, examples=40, accuracy=0.75),
                SiteProgress(name="b", rounds=1, bytes=50, dropped=1, reason="it is not finite"),
            ],
        )
    )  # fmt: skip


def test_each_role_is_shown_with_what_it_used_in_its_own_zone() -> None:
    shown = federated(progress=progress())
    used = statement("a", [3600.0], 500)
    roles = tuple(replace(r, statement=used if r.name == "a" else None) for r in shown.roles)
    status = decide(replace(shown, roles=roles)).status
    found = rows(status)
    assert list(found) == [SERVER, "a", "b"]
    assert (found["a"].zone, found["a"].joules, found["a"].micrograms) == ("z-a", 3600, 500_000)
    assert (found["b"].rounds, found["b"].dropped_updates, found["b"].bytes) == (1, 1, 50)
    assert "not finite" in found["b"].message
    assert (found["a"].examples, found["a"].accuracy) == (40, 0.75)
    assert (found[SERVER].rounds, found[SERVER].bytes, found[SERVER].accuracy) == (2, 150, 0.8)
    assert {row.state for row in found.values()} == {RoleState.RUNNING}


def test_a_person_sees_what_each_role_sent_used_and_emitted_with_units_and_zone() -> None:
    common: dict[str, Any] = {"state": RoleState.RUNNING, "rounds": 2}
    status = decide(federated()).status.model_copy(
        update={
            "roles": [
                RoleStatus(name=SERVER, bytes=2_540_000_000, joules=7_200_000, micrograms=1_500_000_000, zone="gb", accuracy=0.9312, **common),
                RoleStatus(name="a", bytes=1_270_000, joules=5400, micrograms=30_000, zone="fr", **common),
                RoleStatus(name="b", bytes=999, joules=12, zone=None, dropped_updates=3, message="b is ill", **common),
            ]
        }
    )  # fmt: skip
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(*roles_parts(status), sep="\n")
    head, *shown = (re.split(r"  +", line.strip()) for line in capture.get().splitlines())
    assert head == ["Role", "State", "Rounds", "Accuracy", "Traffic", "Zone", "Energy", "Emitted"]
    assert [" ".join(row) for row in shown] == [
        "server Running 2 93.1 % 2.54 GB gb 2 kWh 1.5 kg",
        "a Running 2 1.27 MB fr 1.5 Wh 30 mg",
        "b Running 2 999 B 12 J not known",
        "b: 3 updates dropped; b is ill",
    ]


def test_what_nobody_says_any_more_is_kept() -> None:
    before = decide(federated(progress=progress())).status
    after = decide(federated(progress=None, previous=before)).status
    assert rows(after)["b"].bytes == 50


def test_a_site_that_fails_for_good_is_named_and_the_run_goes_on() -> None:
    gone = a_run(
        suspend=False, end=RunEnd.FAILED, message="site b has 0 examples", failed_attempts=1
    )
    status = decide(federated(parts={"b": gone}, progress=progress())).status
    assert status.state is State.RUNNING
    assert "b failed: site b has 0 examples" in status.message
    assert rows(status)["b"].state is RoleState.FAILED


def test_it_is_stalled_until_it_goes_on() -> None:
    going = decide(federated(progress=progress())).status
    stalled = decide(federated(progress=progress("b is not there"), previous=going)).status
    assert condition(going, ConditionType.STALLED) == ("False", "EnoughSites")
    assert condition(stalled, ConditionType.STALLED) == ("True", "SitesMissing")
    assert is_significant(going, stalled, timedelta(0))
    assert [e.message for e in transitions(going, stalled)] == ["b is not there"]
    again = decide(federated(progress=progress(), previous=stalled)).status
    assert condition(again, ConditionType.STALLED) == ("False", "EnoughSites")
    assert [e.reason for e in transitions(stalled, again)] == ["GoesOn"]


def test_the_sites_are_waited_for_and_then_told_to_go() -> None:
    rounds = progress().rounds
    ended = a_run(suspend=False, end=RunEnd.COMPLETE, summary=done("0" * 64))
    closing = decide(federated(parts={SERVER: ended}))
    assert closing.status.state is State.RUNNING
    assert closing.run is not None
    assert not closing.run.suspend
    late = decide(federated(parts={SERVER: ended}, closing_late=True))
    assert late.run is not None
    assert late.run.suspend
    summary = Summary(
        attempt="s", outcome=Outcome.SUCCEEDED, message="all 4 rounds are done",
        result=Result(rounds=rounds), report_sha256="0" * 64, report_path="x/report.json",
    )  # fmt: skip
    gone, stopped = a_run(suspend=False, end=RunEnd.COMPLETE), a_run(suspend=True)
    over = decide(
        federated(parts={SERVER: replace(ended, summary=summary), "a": gone, "b": stopped})
    ).status
    assert over.state is State.SUCCEEDED
    assert rows(over)["a"].bytes == 100
    assert {row.state for row in rows(over).values()} == {RoleState.ENDED}


def test_a_failed_server_takes_its_sites_along() -> None:
    failed = a_run(suspend=False, end=RunEnd.FAILED, reason="InvalidTask", message="no such model")
    closing = decide(federated(parts={SERVER: failed}))
    assert closing.run is not None
    assert closing.run.suspend
    gone = a_run(suspend=True)
    over = decide(federated(parts={SERVER: failed, "a": gone, "b": gone})).status
    assert over.state is State.FAILED
    assert "no such model" in over.message


def test_it_is_not_resumed_while_a_pod_of_any_role_is_there() -> None:
    held = a_run(active=0)
    ending = a_run(active=1, obstacle=Obstacle("PodEnding", "waits until pod b has ended"))
    decision = decide(federated(parts={SERVER: held, "a": held, "b": ending}))
    assert decision.run is not None
    assert decision.run.suspend
    assert "pod b" in decision.status.message


def test_a_server_that_went_down_with_its_node_is_told_though_its_sites_run() -> None:
    down = a_run(active=1, suspend=False, obstacle=Obstacle("PodNotEnding", "node n may be down"))
    decision = decide(federated(parts={SERVER: down, "a": WORKING, "b": WORKING}))
    assert condition(decision.status, ConditionType.RUNNING) == ("False", "PodNotEnding")
    assert decision.run is not None
    assert not decision.run.suspend
    # A site's is that site's: the others go on.
    decision = decide(federated(parts={SERVER: WORKING, "a": down, "b": WORKING}))
    assert decision.status.state is State.RUNNING


def test_the_status_of_a_federation_stays_small() -> None:
    """With GPUs and after many failures: 80 kB for 33 roles, where an object may have a megabyte."""
    books = books_of([], POWER, T0)
    for role, book in books.items():
        for number in range(6):
            opened = book.begin(f"{number}" * 36, hours(number), f"z-{role}")
            assert opened is not None
            book.enter(opened, sample(number + 0.5, 1e6, gpu=1e8), outlook([100.0] * 9))
            book.end(opened, hours(number + 1), succeeded=False, intensity=None)
    status = decide(federated(accounts=tuple(accounts_of(books)), progress=progress())).status
    without = decide(a_snapshot(now=hours(5), run=WORKING, started=hours(5))).status
    size = len(status.model_dump_json(by_alias=True, exclude_none=True))
    grown = size - len(without.model_dump_json(by_alias=True, exclude_none=True))
    assert grown < 3 * 2400
