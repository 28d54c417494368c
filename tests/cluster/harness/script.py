"""What the pods of a job are to do, and what the hardware under them draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from math import inf

from green_api.base import Provenance
from green_api.contract import Component, Counter, Method, Result, RoundsProgress

Joules = dict[tuple[Component, Method], float]
Hardware = Callable[[float], Joules]
"""Joules since an attempt's start, by seconds since then. What it gives is the truth."""

_RESULT = Result(metrics={"accuracy": 0.9})
_PROVENANCES = {
    Method.NVML_COUNTER: Provenance.MEASURED,
    Method.RAPL_SHARE: Provenance.ATTRIBUTED,
}


def steady(*, gpu: float = 300.0, cpu: float = 40.0) -> Hardware:
    """Watts that never change; a component of zero watts is not there."""
    watts = {
        (Component.GPU, Method.NVML_COUNTER): gpu,
        (Component.CPU, Method.PROCESS_CPU_TIME): cpu,
    }
    return lambda seconds: {key: w * seconds for key, w in watts.items() if w}


def stepped(joules_per_second: Sequence[float]) -> Hardware:
    """A GPU that draws another amount in each second, and the last one from then on."""

    def joules(seconds: float) -> Joules:
        whole = int(seconds)
        full = sum(joules_per_second[min(i, len(joules_per_second) - 1)] for i in range(whole))
        rate = joules_per_second[min(whole, len(joules_per_second) - 1)]
        return {(Component.GPU, Method.NVML_COUNTER): full + rate * (seconds - whole)}

    return joules


def counters_of(joules: Joules) -> list[Counter]:
    """The counters as a pod tells them."""
    return [
        Counter(
            component=component,
            method=method,
            provenance=_PROVENANCES.get(method, Provenance.ESTIMATED),
            joules=amount,
        )
        for (component, method), amount in joules.items()
    ]


class Pending(StrEnum):
    """Why a pod does not start."""

    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    CREATING = "ContainerCreating"


class Answers(StrEnum):
    """How a pod answers when it is asked for progress."""

    WELL = auto()
    REFUSES = auto()
    """Nobody listens."""
    HANGS = auto()
    """The request is taken and never answered."""
    DRIPS = auto()
    """A byte a second, for ever."""
    HUGE = auto()
    """100 MB."""
    REDIRECTS = auto()
    """To another address, which remembers who came (``FakePod.redirected``)."""
    NONSENSE = auto()
    """JSON that is no reply."""
    OTHER_UID = auto()
    """Speaks for another pod."""
    FALLING = auto()
    """Counters that fall from one answer to the next."""
    ABSURD = auto()
    """A million times the joules."""


class Death(StrEnum):
    """An end without last words."""

    VANISHES = auto()
    """The pod is deleted with grace 0, without any status."""
    KILLED = auto()
    """SIGKILL to all of it: exit code 137, no termination message."""
    NODE_DIES = auto()
    """Nothing is heard any more; the pod's status stays, its deletion never ends."""


class Message(StrEnum):
    """What becomes of the termination message."""

    WHOLE = auto()
    TRUNCATED = auto()
    """Half of it."""
    LONG = auto()
    """Sound, and longer than the contract allows, though not than the kubelet does."""
    TOO_LONG = auto()
    """Longer than the kubelet allows, which cuts it."""
    ABSENT = auto()
    OTHER_UID = auto()


@dataclass(frozen=True)
class Script:
    """What each attempt of a job does.

    Args:
        seconds: of work in all; ``inf`` works until ``FakeKubelet.finish``.
        codes: exit codes of the attempts that end by themselves, in order; the last one stays.
            An attempt with code 0 does all the work, another ends after ``fails_after`` seconds.
        fails_after: seconds of work before an exit code that is not 0.
        pending: the pod stays pending for this reason; another script lets it go on.
        start_seconds: from the pod's creation to its start.
        restore_seconds: from its start to its work, in each attempt.
        stop_seconds: from SIGTERM to its end.
        ignores_sigterm: it goes on until SIGKILL at the end of the grace period.
        saves: its work is saved at each boundary and at SIGTERM; else each attempt starts over.
        has_claim: journal and saved work outlive the pod.
        interval: seconds between boundaries; None is what the task document says, else 1.
        hardware: what it draws.
        answers: how it answers the operator.
        death: an end without last words, ``dies_after`` seconds after its start.
        message: what becomes of the termination message.
        result: what it has to show in the end.
        rounds: what a federated server tells of its rounds, whenever it is asked.

    """

    seconds: float = 2.0
    codes: Sequence[int] = (0,)
    fails_after: float = 0.5
    pending: Pending | None = None
    start_seconds: float = 0.0
    restore_seconds: float = 0.0
    stop_seconds: float = 0.0
    ignores_sigterm: bool = False
    saves: bool = True
    has_claim: bool = True
    interval: float | None = None
    hardware: Hardware = field(default_factory=steady)
    answers: Answers = Answers.WELL
    death: Death | None = None
    dies_after: float = 1.0
    message: Message = Message.WHOLE
    result: Result = _RESULT
    rounds: Callable[[], RoundsProgress | None] = lambda: None

    def code(self, ended: int) -> int:
        """The exit code of an attempt that ends by itself, after so many that did."""
        return self.codes[min(ended, len(self.codes) - 1)]


UNTIL_TOLD = Script(seconds=inf)
"""Works until ``FakeKubelet.finish`` or a suspension."""
