"""What an end means, as a table."""

import pytest
from green_api.contract import MAX_TEXT_LENGTH, Outcome
from green_jobs.ending import conclude
from green_jobs.state import WorkerState

SILENT = WorkerState()
DONE = WorkerState(done=True)


@pytest.mark.parametrize(
    ("returncode", "stopped", "state", "code", "outcome"),
    [
        (0, False, SILENT, 0, Outcome.SUCCEEDED),
        (0, False, DONE, 0, Outcome.SUCCEEDED),
        (0, True, SILENT, 75, Outcome.INTERRUPTED),
        (0, True, DONE, 0, Outcome.SUCCEEDED),
        (1, False, SILENT, 1, Outcome.FAILED),
        (3, False, DONE, 3, Outcome.FAILED),
        (3, True, DONE, 75, Outcome.INTERRUPTED),
        (75, False, SILENT, 75, Outcome.INTERRUPTED),
        (75, True, SILENT, 75, Outcome.INTERRUPTED),
        (64, False, SILENT, 64, Outcome.FAILED),
        (65, True, SILENT, 65, Outcome.FAILED),
        (66, False, DONE, 66, Outcome.FAILED),
        (66, True, DONE, 66, Outcome.FAILED),
        (143, True, SILENT, 75, Outcome.INTERRUPTED),
        (143, False, SILENT, 143, Outcome.FAILED),
        (-9, False, SILENT, 137, Outcome.FAILED),
        (-15, False, SILENT, 143, Outcome.FAILED),
        (-15, True, SILENT, 75, Outcome.INTERRUPTED),
        (-9, True, DONE, 75, Outcome.INTERRUPTED),
        (-11, False, SILENT, 139, Outcome.FAILED),
    ],
)
def test_exit_code_and_outcome(
    returncode: int, stopped: bool, state: WorkerState, code: int, outcome: Outcome
) -> None:
    ending = conclude(returncode, state, "", stopped=stopped)
    assert (ending.code, ending.outcome) == (code, outcome)


@pytest.mark.parametrize(
    ("returncode", "state", "last_line", "message"),
    [
        (1, WorkerState(message="the loss is infinite"), "boom", "the loss is infinite"),
        (1, SILENT, "ValueError: boom", "ValueError: boom"),
        (7, SILENT, "", "the command ended with exit code 7"),
        (-9, SILENT, "step 3", "killed by signal 9 (out of memory?)"),
        (-11, SILENT, "step 3", "killed by signal 11"),
        (0, SILENT, "a warning", "the task is complete"),
        (75, SILENT, "", "stopped before the end; what was saved is kept"),
    ],
)
def test_message(returncode: int, state: WorkerState, last_line: str, message: str) -> None:
    assert conclude(returncode, state, last_line, stopped=False).message == message


def test_message_of_any_length_and_encoding_fits_the_contract() -> None:
    message = conclude(1, SILENT, "\udcff" + "x" * 5000, stopped=False).message
    assert len(message) == MAX_TEXT_LENGTH
    assert message.startswith("?x")
