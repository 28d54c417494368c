"""A job with all that is known of it at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from green_api.job import GreenTrainingJob
from green_api.status import JobStatus

from green_operator.account.book import Book
from green_operator.cluster.index import JobRecord, Key
from green_operator.objects.observed import PodRecord, RunRecord, run_record


@dataclass(slots=True)
class Seen:
    """What one reconciliation works with; runs and pods are brought up to date on the way."""

    key: Key
    record: JobRecord
    job: GreenTrainingJob
    previous: JobStatus | None
    run: RunRecord | None
    """The newest run."""
    pods: list[PodRecord]
    """Of all runs, oldest first."""
    book: Book

    @property
    def created(self) -> datetime:
        """When the job was created."""
        created = self.job.metadata.creation_timestamp
        assert created is not None  # noqa: S101 - the server gives it
        return created

    @property
    def deadline(self) -> datetime | None:
        """When the job must have ended."""
        schedule = self.job.spec.schedule
        if schedule.complete_within is not None:
            return self.created + schedule.complete_within
        return schedule.deadline

    @property
    def running(self) -> PodRecord | None:
        """The pod that works."""
        return next((pod for pod in self.pods if pod.is_running), None)

    @property
    def past_runs(self) -> list[str]:
        """The UID of the run that the status remembers: its pods may outlive it."""
        run = self.previous.run if self.previous is not None else None
        return [run.uid] if run is not None and run.uid is not None else []

    @property
    def is_final(self) -> bool:
        """The job has ended, by its stored status."""
        return self.previous is not None and self.previous.state.is_final

    @property
    def next_run(self) -> int:
        """The number of the next run; one that was deleted by hand is followed by another."""
        previous = self.previous.run if self.previous is not None else None
        return previous.number + 1 if previous is not None and previous.name is not None else 1

    def owns(self, body: dict[str, Any]) -> bool:
        """Whether a Job is a run of this job: by its controller's UID and its name."""
        return run_record(body).is_run_of(self.key[1], self.record.uid)
