"""A job with all that is known of it at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from green_api.job import GreenTrainingJob
from green_api.status import JobStatus
from green_api.task import ONLY_ROLE
from green_api.units import Power

from green_operator.account.book import Book
from green_operator.account.roles import books_of
from green_operator.cluster.index import Index, JobRecord, Key
from green_operator.objects.observed import PodRecord, RunRecord, run_record


@dataclass(slots=True)
class Seen:
    """What one reconciliation works with; runs and pods are brought up to date on the way.

    All of it goes by role; a job with one kind of pod has one role.
    """

    key: Key
    record: JobRecord
    job: GreenTrainingJob
    previous: JobStatus | None
    books: dict[str, Book]
    runs: dict[str, RunRecord]
    """The Jobs of the newest run, as far as there are any."""
    pods: dict[str, list[PodRecord]]
    """Of all runs, oldest first."""

    @classmethod
    def of(
        cls,
        key: Key,
        record: JobRecord,
        job: GreenTrainingJob,
        previous: JobStatus | None,
        reserved: Mapping[str, Power],
        created: datetime,
    ) -> Self:
        """A job with its books; runs and pods are looked for later.

        Args:
            key: its namespace and name.
            record: as the index has it.
            job: its manifest.
            previous: its stored status.
            reserved: by role, what the reservation can draw.
            created: when the job could have started.

        """
        return cls(key, record, job, previous, _books(previous, reserved, created), {}, {})

    def look(self, index: Index) -> None:
        """Take in the runs and pods that the index has now."""
        known = [r for r in index.runs(self.key, self.record.uid) if r.role in self.books]
        newest = max((run.number for run in known), default=0)
        self.runs = {
            role: run for role in self.books for run in known
            if (run.role, run.number) == (role, newest)
        }  # fmt: skip
        role_of = {run.uid: run.role for run in known}
        for uid in self._past_runs:
            role_of.setdefault(uid, self.lead)
        # The pods of a Job that is gone are known by the books.
        entered = {a.uid: role for role, book in self.books.items() for a in book.latest}
        pods = index.pods(self.key, role_of, entered)
        self.pods = {role: [] for role in self.books}
        for pod in pods:
            role = role_of.get(pod.owner_uid) or entered.get(pod.uid) or self.lead
            self.pods[role].append(pod)

    @property
    def lead(self) -> str:
        """The role whose end is the run's."""
        return next(iter(self.books))

    @property
    def has_roles(self) -> bool:
        """Whether there are several."""
        return self.lead != ONLY_ROLE

    @property
    def number(self) -> int | None:
        """The number of the newest run; None where there is none."""
        return next((run.number for run in self.runs.values()), None)

    @property
    def all_pods(self) -> list[PodRecord]:
        """The pods of all roles."""
        return [pod for pods in self.pods.values() for pod in pods]

    @property
    def created(self) -> datetime:
        """When the job was created."""
        created = self.job.metadata.creation_timestamp
        assert created is not None  # noqa: S101 - the server gives it
        return created

    @property
    def deadline(self) -> datetime | None:
        """When the job must have ended."""
        return self.job.spec.schedule.ends(self.created)

    @property
    def running(self) -> dict[str, PodRecord]:
        """By role, the pod that works."""
        return {
            role: next(pod for pod in pods if pod.is_running)
            for role, pods in self.pods.items()
            if any(pod.is_running for pod in pods)
        }

    def own_pods(self, role: str) -> Sequence[PodRecord]:
        """The pods of a role's part of the newest run."""
        run = self.runs.get(role)
        return [p for p in self.pods[role] if run is not None and p.owner_uid == run.uid]

    def has_leftover(self, run: RunRecord) -> bool:
        """Whether a pod of the same role works or ends that is not of this Job."""
        return any(p.owner_uid != run.uid and not p.is_over for p in self.pods[run.role])

    def zone_of(self, role: str) -> str | None:
        """The grid zone that a role asks for beside the job's own."""
        federate = self.job.spec.task.federate
        return federate.zone_of(role) if federate is not None else None

    @property
    def _past_runs(self) -> list[str]:
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

    def owns(self, body: Mapping[str, Any]) -> bool:
        """Whether a Job is a run of this job: by its controller's UID and its name."""
        return run_record(body).is_run_of(self.key[1], self.record.uid)


def _books(
    previous: JobStatus | None, reserved: Mapping[str, Power], created: datetime
) -> dict[str, Book]:
    if ONLY_ROLE in reserved:
        account = previous.account if previous is not None else None
        return {ONLY_ROLE: Book.from_status(account, reserved[ONLY_ROLE], created)}
    accounts = previous.accounts if previous is not None else None
    return books_of(accounts or [], reserved, created)
