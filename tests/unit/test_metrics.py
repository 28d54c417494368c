"""Metrics: counters grow by what is new, once, also over restarts."""

from __future__ import annotations

import pytest
from green_api.contract import Mark
from green_api.status import EnergyStatus, JobStatus, State
from green_api.units import Power
from green_operator.account.statement import Statement, state_account
from green_operator.metrics import Metrics, standing

from tests.unit.factories import T0, attempt, job, outlook, sample


def a_statement(joules: float) -> Statement:
    one = attempt(0, 1, [sample(1, joules, Mark.ENDED)], ok=True)
    return state_account([one], Power(1), "gb", outlook([360]), T0)


def energy(metrics: Metrics) -> float:
    labels = {"namespace": "default", "zone": "gb", "task": "train", "provenance": "Estimated"}
    return metrics.registry.get_sample_value("green_energy_joules_total", labels) or 0.0


STATUS = JobStatus(state=State.RUNNING)


def test_the_same_account_counts_once() -> None:
    metrics = Metrics()
    for joules in (100, 100, 250):
        metrics.record(job(), STATUS, a_statement(joules))
    assert energy(metrics) == pytest.approx(250)


def test_a_new_process_counts_only_what_is_new() -> None:
    metrics = Metrics()
    metrics.begin_after(job(), a_statement(100))
    metrics.record(job(), STATUS, a_statement(150))
    assert energy(metrics) == pytest.approx(50)


def test_jobs_are_counted_in_every_state() -> None:
    metrics = Metrics()
    metrics.count_jobs([standing(job(), STATUS), standing(job(), None)])
    counts = {
        state: metrics.registry.get_sample_value(
            "green_jobs", {"namespace": "default", "task": "train", "state": state.value}
        )
        for state in State
    }
    assert counts[State.RUNNING] == 1
    assert counts[State.FAILED] == 0


def test_the_series_of_a_deleted_job_go_and_its_energy_stays_counted() -> None:
    metrics = Metrics()
    status = STATUS.model_copy(update={"energy": EnergyStatus(joules=100)})
    metrics.record(job(), status, a_statement(100))
    metrics.forget("default", "shrink")
    labels = {"namespace": "default", "name": "shrink"}
    assert metrics.registry.get_sample_value("green_job_energy_joules", labels) is None
    assert energy(metrics) == pytest.approx(100)
