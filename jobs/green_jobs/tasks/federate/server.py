"""The server: its SuperLink beside, its rounds here, one checkpoint after each."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import httpx
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.grid import Grid
from green_api.errors import GreenError, TaskConfigError
from green_api.federate import Federate, OnStalled

from green_jobs.checkpoint import CheckpointStore
from green_jobs.signals import Signals
from green_jobs.tasks.federate.attempt import FIELD
from green_jobs.tasks.federate.errors import RoundAbandonedError, StalledError
from green_jobs.tasks.federate.flower.grid import LinkLostError, open_grid, register_sites
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.guard import Fault
from green_jobs.tasks.federate.link import ServerFiles
from green_jobs.tasks.federate.patience import give_up_at
from green_jobs.tasks.federate.processes import Companion
from green_jobs.tasks.federate.records import CONFIG, DECLARE, FINISH, METRICS, WHAT
from green_jobs.tasks.federate.rounds import (
    Federation,
    Rounds,
    TooFewSitesError,
    is_over,
    reasons_of,
)
from green_jobs.tasks.federate.state import State, Weights

MAX_UPDATE_BYTES: Final = 2**31
"""Flower takes no larger message."""
_START_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.2
_VAIN_PAUSE_SECONDS: Final = 5.0
"""After the first round in vain: what a site's disk or network had for a moment may pass."""
_LONGEST_PAUSE_SECONDS: Final = 60.0
_MOST_DOOMED: Final = 3
_SETTLING: Final = timedelta(seconds=30)
_FAREWELL_TIME: Final = timedelta(seconds=10)
_DECLARE_TIME: Final = timedelta(minutes=1)
"""A site that works answers at once; one that hangs must not cost each round its timeout again."""
_LOG: Final = logging.getLogger(__name__)


class Teller(Protocol):
    """Is told how the rounds go."""

    def begins(self, state: State) -> None:
        """Rounds are made from here on."""

    def went_on(self, state: State, *, is_saved: bool) -> None:
        """One more round is done, and stands in a checkpoint where the disk took it."""

    def waits(self, state: State, why: str) -> None:
        """Too few sites are there, or sent an update that counts, for a moment so far."""

    def stalled(self, state: State, why: str) -> None:
        """The same for longer than a site takes to start."""

    def in_vain(self) -> None:
        """Since the last round that stands was only waiting, or rounds that failed."""

    def over(self, state: State, why: str) -> None:
        """There will be no further round; the sites are told afterwards."""


@dataclass
class _Stall:
    """A time without enough sites."""

    began: datetime
    refused: int = 0
    """Rounds that were made in vain: each costs the sites their work."""
    doomed: int = 0
    """How many of the last of them failed in the same way, which those who are away cannot mend."""
    _faults: frozenset[tuple[str, str]] = frozenset()

    def lasts(self, now: datetime) -> bool:
        """Whether it is longer than a site takes to start."""
        return now - self.began >= _SETTLING

    def note(self, error: TooFewSitesError) -> None:
        """Look at one more try."""
        if not error.rejections:
            return
        self.refused += 1
        last = self._faults
        self._faults = frozenset(
            (r.site, r.reason) for r in error.rejections if r.fault is not Fault.SILENT
        )
        is_same = error.is_doomed and self._faults == last
        self.doomed = self.doomed + 1 if is_same else int(error.is_doomed)

    def pause(self, error: TooFewSitesError) -> float:
        """Seconds to the next try: at once where sites were missing, ever later in vain."""
        if not error.rejections:
            return _PAUSE_SECONDS
        return min(_VAIN_PAUSE_SECONDS * 2.0 ** (self.refused - 1), _LONGEST_PAUSE_SECONDS)


@dataclass
class Server:
    """Makes the rounds of one attempt.

    Args:
        task: what is asked for.
        files: keys and folders.
        link: its SuperLink, started already.
        store: of the checkpoints.
        trained: names of the net's parameters; what else it has are buffers.
        evaluate: the accuracy of weights on the server's test data.
        seed: of the job.
        signals: whether the server is to stop.
        teller: is told how the rounds go.
        deadline: of the job, which bounds how long missing sites are waited for.

    """

    task: Federate
    files: ServerFiles
    link: Companion
    store: CheckpointStore
    trained: Collection[str]
    evaluate: Callable[[Weights], float]
    seed: int
    signals: Signals
    teller: Teller
    deadline: datetime | None = None
    max_update_bytes: int = MAX_UPDATE_BYTES
    _examples: dict[str, int] = field(default_factory=dict, init=False)
    _state: State = field(init=False)

    def run(self, state: State) -> tuple[State, str]:
        """Rounds until there is a reason to end; the last state and the reason.

        Raises:
            RoundAbandonedError: a signal came; the last checkpoint stands.
            StalledError: too few sites for too long, or the same failure again and again.
            LockLostError: another attempt has taken over.
            TaskConfigError: the task cannot work as written.

        """
        self._check_size(state)
        self._state = state
        self._wait_healthy()
        with self.link.kept(before=lambda: None):
            while True:
                try:
                    endpoint, secret = self._endpoint(), self._secret()
                    with open_grid(endpoint, secret, self.max_update_bytes) as grid:
                        ids = register_sites(endpoint, self.files.public_keys)
                        why = self._rounds(grid, ids)
                        self.teller.over(self._state, why)
                        self._finish(grid, ids)
                        return self._state, why
                except (httpx.HTTPError, LinkLostError) as error:
                    self._check_stopped()
                    _LOG.warning("the run is lost, another is begun: %s", error)
                    self.signals.wait(_PAUSE_SECONDS)

    def _rounds(self, grid: Grid, ids: Mapping[str, int]) -> str:
        """Make rounds; why there are no more. What was done before the run is lost stays done."""
        federation = Federation(
            grid=grid,
            ids=ids,
            examples=self._examples,
            max_bytes=self.max_update_bytes,
            pause=self.signals.wait,
            is_stopped=lambda: self.signals.stop_requested,
        )
        rounds = Rounds(self.task, federation, self.trained, self.evaluate, self.seed)
        self.teller.begins(self._state)
        stall: _Stall | None = None
        while not (why := is_over(self.task, self._state.rounds)):
            self._check_stopped()
            try:
                self._declare(federation)
                if stall is not None:
                    rounds.check_enough()
                    self._tell_vain(stall)
                self._make(rounds)
                stall = None
            except TooFewSitesError as error:
                now = datetime.now(UTC)
                self._count_vain(error)
                stall = stall or _Stall(now)
                stall.note(error)
                if stall.doomed >= _MOST_DOOMED:
                    return self._give_up(
                        f"round {self._state.next_round} failed {stall.doomed} times in the same "
                        f"way and would again: {error}"
                    )
                if now >= self._give_up_at(stall):
                    return self._give_up(f"stalled for too long: {error}")
                (self.teller.stalled if stall.lasts(now) else self.teller.waits)(
                    self._state, str(error)
                )
                self.signals.wait(stall.pause(error))
        return why

    def _tell_vain(self, stall: _Stall) -> None:
        """Waiting is no useful work, but for the sites' own start at the very beginning."""
        is_start = not self._state.rounds and not stall.refused
        if not is_start or stall.lasts(datetime.now(UTC)):
            self.teller.in_vain()

    def _make(self, rounds: Rounds) -> None:
        began = time.monotonic()
        state = rounds.next(self._state)
        *before, last = state.rounds
        timed = last.model_copy(update={"seconds": time.monotonic() - began})
        self._state = state.model_copy(update={"rounds": [*before, timed]})
        is_saved = self.store.save(self._state.to_checkpoint(self.task))
        self.teller.went_on(self._state, is_saved=is_saved)

    def _count_vain(self, error: TooFewSitesError) -> None:
        """A server that is started again must not tell fewer drops than it did."""
        if error.rejections:
            dropped = reasons_of(error.rejections)
            self._state = self._state.after_vain(dropped, error.traffic)
            self.store.save(self._state.to_checkpoint(self.task))

    def _give_up_at(self, stall: _Stall) -> datetime:
        return give_up_at(stall.began, self.task, self._state.rounds, self.deadline)

    def _give_up(self, words: str) -> str:
        if self.task.on_stalled is OnStalled.FAIL or not self._state.rounds:
            raise StalledError(words)
        self.teller.in_vain()
        return words

    def _declare(self, federation: Federation) -> None:
        """Ask those who are new how many examples they have: no update may claim more.

        One that was away is new again: it may have been started with other data.
        """
        missing = set(federation.missing())
        for site in missing:
            self._examples.pop(site, None)
        new = [s for s in federation.ids if s not in missing and s not in self._examples]
        wait = min(_DECLARE_TIME, self.task.round_timeout)
        replies = federation.ask(_messages(federation, new, DECLARE), wait) if new else {}
        for site, message in replies.items():
            if isinstance(message, str) or message.has_error():
                continue
            metrics = message.content.get(METRICS)
            count = metrics.get("examples") if isinstance(metrics, MetricRecord) else None
            if isinstance(count, int) and count > 0:
                self._examples[site] = count

    def _finish(self, grid: Grid, ids: Mapping[str, int]) -> None:
        """Tell the sites that are there; those that are not end with the run."""
        federation = Federation(grid, ids, {}, 0, self.signals.wait, is_stopped=lambda: False)
        away = set(federation.missing())
        there = [site for site in ids if site not in away]
        federation.ask(_messages(federation, there, FINISH), _FAREWELL_TIME)

    def _check_size(self, state: State) -> None:
        """A net that is too large would only be found out by updates that are all dropped."""
        size = sum(array.nbytes for array in state.weights.values())
        if size > self.max_update_bytes:
            msg = (
                f"{FIELD}.model: its weights have {size} bytes; at most {self.max_update_bytes} "
                "travel in an update"
            )
            raise TaskConfigError(msg)

    def _wait_healthy(self) -> None:
        trusted = ssl.create_default_context(cadata=self._ca().decode())
        url = f"https://{self._endpoint().address}/health"
        give_up = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up:
            self._check_stopped()
            if not self.link.is_running:
                msg = f"the SuperLink ended with code {self.link.code}"
                raise GreenError(msg)
            try:
                if httpx.get(url, verify=trusted).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            self.signals.wait(_PAUSE_SECONDS)
        msg = f"the SuperLink is not ready within {_START_SECONDS:g} s"
        raise GreenError(msg)

    def _check_stopped(self) -> None:
        if self.signals.stop_requested:
            msg = "interrupted; start again to go on from the last round"
            raise RoundAbandonedError(msg)

    def _endpoint(self) -> Endpoint:
        """The SuperLink from this machine: loopback, where it hides nothing."""
        return Endpoint(f"127.0.0.1:{self.files.listen.rpartition(':')[2]}", self._ca())

    def _ca(self) -> bytes:
        return (self.files.credentials / "ca.pem").read_bytes()

    def _secret(self) -> bytes:
        return (self.files.credentials / "secret").read_bytes()


def _messages(federation: Federation, sites: list[str], what: str) -> list[Message]:
    content = RecordDict({CONFIG: ConfigRecord({WHAT: what})})
    return [
        Message(content, dst_node_id=federation.ids[site], message_type="query") for site in sites
    ]
