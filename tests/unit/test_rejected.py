"""Jobs that this version cannot read are counted all the same."""

from __future__ import annotations

from typing import Any

import pytest
from green_api.status import State
from green_operator.metrics import rejected_standing
from green_operator.objects.rejected import rejected_status

from tests.unit.factories import T0


def a_body(**status: Any) -> dict[str, Any]:
    body = {"metadata": {"namespace": "team-a", "name": "newer"}, "spec": {"task": {"dream": {}}}}
    return body | ({"status": status} if status else {})


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, State.ACCEPTED),
        ({"state": "Running"}, State.RUNNING),
        ({"state": "Dreaming"}, State.ACCEPTED),
    ],
)
def test_what_cannot_be_read_is_counted_as_not_accepted(
    status: dict[str, Any], state: State
) -> None:
    body = a_body(**status)
    written = rejected_status(body, ["spec.task.dream: unknown"], T0)
    assert written is not None
    counted = rejected_standing(body, written)
    assert (counted.namespace, counted.task, counted.state) == ("team-a", "dream", state)
    assert counted.conditions == (("Accepted", "False", "NotReadable"),)


def test_one_that_has_ended_is_counted_by_its_state_alone() -> None:
    body = a_body(state="Failed")
    written = rejected_status(body, ["no"], T0)
    assert written is not None
    assert rejected_standing(body, written).state is State.FAILED
    assert rejected_standing(body, written).conditions == ()
