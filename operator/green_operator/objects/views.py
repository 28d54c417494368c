"""Runs and pods as the decisions see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from green_api.contract import ExitCode, Summary

from green_operator.lifecycle.types import POD_NOT_ENDING, Obstacle, RunEnd, RunView
from green_operator.objects.observed import PodRecord, RunRecord

_PULL_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
_PASSING_REASONS: Final = frozenset({"ContainerCreating", "PodInitializing"})
# A pod that is still there so long after its grace period is on a node that does not answer.
_LATE: Final = timedelta(seconds=30)
# The Job controller has made a pod long before, unless something refuses it.
_NO_POD: Final = timedelta(minutes=1)
_FINAL_CODES: Final = {
    ExitCode.USAGE: "InvalidTask",
    ExitCode.CONFIG: "InvalidTask",
    ExitCode.LIMIT: "LimitExceeded",
}


def run_view(run: RunRecord, pods: Sequence[PodRecord], now: datetime) -> RunView:
    """A run with its pods, oldest first."""
    live = [pod for pod in pods if not pod.is_over]
    # Between two attempts there is no pod, and there will be one unless the Job is held.
    is_open = run.end is None and not run.suspend
    last = next((pod for pod in reversed(pods) if pod.is_over), None)
    summaries = [s for pod in pods if (s := pod.summary()) is not None]
    reason, message = _failure(run, last)
    return RunView(
        number=run.number,
        suspend=run.suspend,
        # The Job controller's count may be late, and so may ours: the higher one is safe.
        active=0 if run.end is not None else max(len(live), run.unfinished, int(is_open)),
        # One that does not end works no more, as far as anybody can see.
        running=sum(pod.is_running and not _is_late(pod, now) for pod in live)
        + (1 if _is_settling(run, pods) else 0),
        failed_attempts=run.failed,
        end=run.end,
        reason=reason,
        message=message,
        summary=summaries[-1] if summaries else None,
        name=run.name,
        uid=run.uid,
        obstacle=_obstacle(run, pods, now),
    )


def missing_view(number: int) -> RunView:
    """A role whose Job is not there (any more) and will be made, suspended."""
    return RunView(
        number=number, suspend=True, active=0, running=0, failed_attempts=0, end=None,
        reason="", message="", summary=None,
    )  # fmt: skip


def _is_settling(run: RunRecord, pods: Sequence[PodRecord]) -> bool:
    """Its pod ended for good, and the Job controller has not said so yet."""
    last = pods[-1] if pods else None
    if run.end is not None or last is None or last.gone:
        return False
    return last.exit_code == 0 or last.exit_code in _FINAL_CODES


def _is_tried_again(pod: PodRecord) -> bool:
    # One that somebody deleted, as a suspension does, has not failed.
    is_deleted = pod.gone or pod.deleted is not None
    return bool(pod.exit_code) and pod.exit_code not in _FINAL_CODES and not is_deleted


def _obstacle(run: RunRecord, pods: Sequence[PodRecord], now: datetime) -> Obstacle | None:
    live = [pod for pod in pods if not pod.is_over]
    if _lacks_pod(run, live, now):
        return Obstacle(
            "PodNotCreated",
            f"no pod could be made: a quota or an admission policy may refuse it; the events of "
            f"the Job {run.name} say what (kubectl describe job {run.name})",
        )
    is_open = not run.suspend and run.end is None
    if not live and pods and is_open and _is_tried_again(pods[-1]):
        return Obstacle("Retrying", f"{_words(pods[-1], '')}; another attempt follows")
    return next((o for pod in live if (o := obstacle(pod, now)) is not None), None)


def _lacks_pod(run: RunRecord, live: Sequence[PodRecord], now: datetime) -> bool:
    """It was let go a while ago and has no pod; who refused one is in the Job's events only."""
    if run.since is None or run.suspend or run.end is not None:
        return False
    return not live and not run.unfinished and now > run.since + _NO_POD


def obstacle(pod: PodRecord, now: datetime) -> Obstacle | None:
    """What keeps a pod from working, or from going."""
    if _is_late(pod, now):
        return Obstacle(
            POD_NOT_ENDING,
            f"pod {pod.name} does not end: node {pod.node or 'unknown'} may be down; it is never "
            "deleted by force, for two pods would write to one claim",
        )
    if pod.deleted is not None:
        return Obstacle("PodEnding", f"waits until pod {pod.name} has ended")
    reason, text = pod.waiting
    if not reason or reason in _PASSING_REASONS or pod.is_running:
        return None
    if reason in _PULL_REASONS:
        return Obstacle("ImagePullFailed", f"pod {pod.name}: {text or reason}")
    if not pod.node:
        return Obstacle("Unschedulable", f"pod {pod.name} cannot be scheduled: {text or reason}")
    return Obstacle("ContainerNotStarted", f"pod {pod.name}: {reason}: {text}")


def _is_late(pod: PodRecord, now: datetime) -> bool:
    """It is still there long after its grace period."""
    return pod.deleted is not None and now >= pod.deleted + _LATE


def _failure(run: RunRecord, last: PodRecord | None) -> tuple[str, str]:
    """Why a run failed: by the exit code and word of its last pod, else as the Job says."""
    if run.end is not RunEnd.FAILED:
        return "", ""
    reason = run.reason
    if last is not None and last.exit_code in _FINAL_CODES:
        reason = _FINAL_CODES[ExitCode(last.exit_code)]
    summary: Summary | None = last.summary() if last is not None else None
    if summary is not None:
        return reason, summary.message
    if last is not None and last.exit_code is not None:
        return reason, _words(last, run.message)
    return reason, run.message


def _words(pod: PodRecord, otherwise: str) -> str:
    """How a pod ended, with the last line that it left."""
    summary = pod.summary()
    last_line = (pod.termination.strip().splitlines()[-1:] or [otherwise])[0]
    words = summary.message if summary is not None else last_line
    text = f"pod {pod.name} ended with exit code {pod.exit_code}"
    return f"{text}: {words[:300]}" if words else text
