"""The documents that pass between operator and pods; the local runner uses the same.

In: a ``TaskDocument``, read from the file named by ``GREEN_TASK_FILE``. Out, while running: a
``ProgressReply`` per ``GET /v1/progress?after=SEQUENCE`` on ``GREEN_PROGRESS_PORT``. At the end: a
``Summary`` in the termination message and a ``Report`` on the claim, whose digest the summary
carries. Times of a pod are its own wall clock, in UTC.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum, StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, FiniteFloat, JsonValue, StringConstraints

from green_api import API_VERSION
from green_api.base import Model, Provenance
from green_api.federate import MAX_SITES, SiteName
from green_api.task import ONLY_ROLE, Task
from green_api.units import Energy

# Environment of a pod, and of the subprocess that stands for it.
TASK_FILE_ENV: Final = "GREEN_TASK_FILE"
ATTEMPT_ENV: Final = "GREEN_ATTEMPT_UID"
CLAIM_ENV: Final = "GREEN_CLAIM_DIR"
PORT_ENV: Final = "GREEN_PROGRESS_PORT"
TERMINATION_FILE_ENV: Final = "GREEN_TERMINATION_FILE"
CREDENTIALS_DIR_ENV: Final = "GREEN_CREDENTIALS_DIR"
"""Of a federated role. The server's holds ``ca.pem``, ``server.pem``, ``server.key``, ``secret`` and
each site's public key as ``SITE.pub``; a site's holds ``ca.pem``, ``site.key`` and ``secret``."""
# Environment of the user's own command.
CHECKPOINT_DIR_ENV: Final = "GREEN_CHECKPOINT_DIR"
OUTPUT_DIR_ENV: Final = "GREEN_OUTPUT_DIR"
PROGRESS_FILE_ENV: Final = "GREEN_PROGRESS_FILE"
VISIBLE_DEVICES_ENV: Final = "CUDA_VISIBLE_DEVICES"


def devices_in(visible: str) -> list[str]:
    """Indices and UUIDs of the visible GPUs; CUDA stops at the first invalid one."""
    names = [name.strip() for name in visible.split(",")]
    return names[: next((i for i, n in enumerate(names) if n.startswith("-") or not n), None)]


PROGRESS_PATH: Final = "/v1/progress"
DEFAULT_PORT: Final = 8765
MAX_DOCUMENT_BYTES: Final = 32 * 1024
MAX_SUMMARY_BYTES: Final = 3 * 1024
MAX_REPLY_BYTES: Final = 256 * 1024
MAX_REPLY_ENTRIES: Final = 500
MAX_LOG_BYTES: Final = 10 * 1024 * 1024
MAX_TEXT_LENGTH: Final = 512

ShortText = Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH)]
Uid = Annotated[str, StringConstraints(max_length=64)]
Metrics = Annotated[
    dict[Annotated[str, StringConstraints(max_length=63)], FiniteFloat], Field(max_length=32)
]
"""Figures that a task reports, such as loss and accuracy."""


class ExitCode(IntEnum):
    """Exit codes of an attempt (the names of sysexits.h where there is one)."""

    SUCCEEDED = 0
    """Done, with the done-marker written."""
    FAILED = 1
    """Failed; may be tried again."""
    USAGE = 64
    """The wrapper was called wrongly; no retry."""
    CONFIG = 65
    """The task cannot run as written; no retry."""
    LIMIT = 66
    """A limit of the task was broken (accuracy drop); no retry, the report is kept."""
    INTERRUPTED = 75
    """Stopped before the end; what was done is checkpointed; start again to go on."""


Address = Annotated[str, StringConstraints(pattern=r"^.+:[0-9]{1,5}$", max_length=262)]
"""Host and port; an IPv6 address stands in brackets."""


class Federation(Model):
    """What a role of a federated job is told beside the task."""

    server: Address
    """Where the sites reach the server; its certificate is for this host."""
    listen: Address
    """Where the server's link listens; its certificate is for 127.0.0.1 too, which the server itself asks."""
    deadline: AwareDatetime | None = None
    """When the job must have ended: a server whose sites are missing waits only as long as the rounds that remain fit before it."""


class TaskDocument(Model):
    """What a pod is told: the resolved task and how to report."""

    api_version: Literal["greentraining.io/v1alpha1"] = API_VERSION
    """The version of this contract."""
    namespace: ShortText
    """The job's namespace."""
    name: ShortText
    """The job's name."""
    folder: ShortText
    """The role's folder, relative to the claim's root: the job's own, of a site `sites/SITE` in it."""
    task: Task
    """The task."""
    role: ShortText = ONLY_ROLE
    """Which of the task's roles this pod is: empty where there is one only, `server` or a site's name."""
    federation: Federation | None = None
    """Of a federated job alone."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs reserved for this pod."""
    cores: Annotated[float, Field(gt=0)]
    """CPU cores reserved for this pod."""
    gpu_watts: Annotated[float, Field(gt=0)]
    """Power table: one GPU at full load, for energy that no counter shows."""
    core_watts: Annotated[float, Field(gt=0)]
    """Power table: one busy core."""
    journal_interval_seconds: Annotated[float, Field(ge=1)] = 300.0
    """Between two journal entries, and between two checkpoints."""
    grace_period_seconds: Annotated[float, Field(ge=1)] = 120.0
    """From SIGTERM to SIGKILL."""


class Component(StrEnum):
    """What drew the energy."""

    GPU = "gpu"
    CPU = "cpu"


class Method(StrEnum):
    """How a component's energy was found."""

    NVML_COUNTER = "nvml-counter"
    """NVML's energy counter of whole GPUs held by this job alone."""
    RAPL_SHARE = "rapl-share"
    """The packages' RAPL counter times this job's share of the machine's busy CPU time."""
    CGROUP_CPU_TIME = "cgroup-cpu-time"
    """CPU time of the job's own cgroup times the table's power of a busy core."""
    PROCESS_CPU_TIME = "process-cpu-time"
    """CPU time of the job's processes times the table's power of a busy core."""
    RESERVED = "reserved"
    """Reserved hardware times the table's power times time."""


class Counter(Model):
    """Energy of one component by one method, cumulative over the attempt; it only rises."""

    component: Component
    """What drew it."""
    provenance: Provenance
    """How sure it is."""
    method: Method
    """How it was found."""
    joules: Annotated[float, Field(ge=0, le=1e12)]
    """Joules since the attempt began."""

    @property
    def energy(self) -> Energy:
        """The counter as a unit."""
        return Energy(self.joules)


class Mark(StrEnum):
    """What a journal entry stands for, beside its figures."""

    STARTED = "Started"
    """The attempt began."""
    WORKING = "Working"
    """Start-up and restore are over; from here on work is done."""
    BOUNDARY = "Boundary"
    """A journal boundary."""
    SAVED = "Saved"
    """The work done up to this moment is in a checkpoint that stands."""
    DISCARDED = "Discarded"
    """The work done since the last save, or since work began, was in vain: it is not useful."""
    ENDED = "Ended"
    """The attempt ended by itself or by SIGTERM."""


class JournalEntry(Model):
    """The state of one attempt's meters at one moment."""

    sequence: Annotated[int, Field(ge=0, le=2**53)]
    """Its place in the order of entries of all attempts of the role; unique, rising."""
    attempt: Uid
    """The attempt's pod UID."""
    time: AwareDatetime
    """When the meters were read."""
    mark: Mark
    """What the entry stands for."""
    counters: Annotated[list[Counter], Field(max_length=8)]
    """Cumulative energy; a component without a reading is absent, not zero."""


class SiteProgress(Model):
    """What a site has done for the rounds so far, as the server saw it."""

    name: SiteName
    """The site."""
    rounds: Annotated[int, Field(ge=0)] = 0
    """Rounds in which its update counted."""
    dropped: Annotated[int, Field(ge=0)] = 0
    """Updates of it that were dropped."""
    reason: Annotated[str, StringConstraints(max_length=200)] = ""
    """Why the last of them was."""
    bytes: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Weights sent to it and back, of the rounds in which it answered."""
    examples: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """How many it trained on when its update last counted."""
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of its own training then, on its own data."""


class RoundsProgress(Model):
    """How far a federated training is."""

    rounds: Annotated[int, Field(ge=0)]
    """Whole rounds so far."""
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the global weights after the last of them, on the server's test data."""
    stalled: ShortText = ""
    """Who is missing, while there are too few sites for a round; empty while it goes on."""
    sites: Annotated[list[SiteProgress], Field(max_length=MAX_SITES)] = []
    """In the order of the manifest."""


class Progress(Model):
    """How far the work is."""

    percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    """Share of the work that is done; absent where the task does not say."""
    estimated_remaining_seconds: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """Seconds of work left at the present pace, pauses not counted."""
    phase: ShortText = ""
    """What is being done, for people."""
    metrics: Metrics = {}
    """Figures that the task reports, such as loss and accuracy."""
    rounds: RoundsProgress | None = None
    """Told by the server of a federated job."""


class ProgressReply(Model):
    """The answer to `GET /v1/progress?after=SEQUENCE`."""

    attempt: Uid
    """The UID of the pod that answers."""
    time: AwareDatetime
    """The pod's clock."""
    progress: Progress
    """How far the work is."""
    current: JournalEntry
    """The meters now; its sequence is that of the newest journal entry and is not counted."""
    entries: Annotated[list[JournalEntry], Field(max_length=MAX_REPLY_ENTRIES)]
    """Journal entries with a sequence above `after`, of earlier attempts too, oldest first."""
    more: bool = False
    """There are more entries: ask again after the last one."""


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"


class Artifact(Model):
    """A file that the job left on the claim."""

    path: ShortText
    """Relative to the claim's root."""
    bytes: Annotated[int, Field(ge=0)]
    """Size."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    """Digest."""


class ModelFigures(Model):
    """Size, quality and speed of one model, measured on this machine."""

    parameters: Annotated[int, Field(ge=0)]
    """Number of parameters."""
    bytes: Annotated[int, Field(ge=0)]
    """Size of the exported file."""
    accuracy: Annotated[float, Field(ge=0, le=1)]
    """Share of the test set that is classified right."""
    latency_ms: Annotated[float, Field(ge=0)] | None = None
    """Median wall time of one example, one thread; absent where it was not measured."""
    latency_cpu_ms: Annotated[float, Field(ge=0)] | None = None
    """Median thread CPU time of the same."""
    runtime: ShortText
    """What ran it, such as `PyTorch eager` or `ONNX Runtime int8`."""


class Result(Model):
    """What a task has to show, written by the task, carried in summary and report."""

    original: ModelFigures | None = None
    """The original model in PyTorch."""
    original_onnx: ModelFigures | None = None
    """The original model in ONNX Runtime: the fair baseline of an ONNX export."""
    final: ModelFigures | None = None
    """The final model."""
    metrics: Metrics = {}
    """What the user's own command reported last."""
    rounds: RoundsProgress | None = None
    """How a federated training went, by site."""


class Summary(Model):
    """The termination message: at most 3 KiB."""

    attempt: Uid
    """The attempt that writes it."""
    outcome: Outcome
    """How it ended."""
    message: ShortText
    """One sentence for people."""
    final: JournalEntry | None = None
    """The meters at the end; absent where the attempt found the work done and only said so."""
    kept: Annotated[list[JournalEntry], Field(max_length=5)] = []
    """When it began to work and when it last saved, which tells what work was kept; before them the last entries of earlier attempts, for whoever did not hear them."""
    result: Result | None = None
    """What came out."""
    report_path: ShortText | None = None
    """The full report, relative to the claim's root."""
    report_sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    """Its digest: the done-marker. Present exactly where the work is complete (or broke its limit)."""


class Report(Model):
    """The full report on the claim."""

    namespace: ShortText
    """The job's namespace."""
    name: ShortText
    """The job's name."""
    task: Task
    """What was asked for."""
    outcome: Outcome
    """How it ended."""
    message: ShortText
    """One sentence for people."""
    result: Result
    """What came out."""
    details: dict[str, JsonValue] = {}
    """What the task adds: its steps with accuracy and seconds, CPU flags, versions."""
    artifacts: list[Artifact]
    """The files that it left."""
    journal: list[JournalEntry]
    """The last entry of each attempt, oldest first."""


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
