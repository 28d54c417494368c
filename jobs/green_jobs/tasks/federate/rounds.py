"""Rounds over Flower's grid and strategies that can be left and taken up again.

Flower's own loop keeps its weights in memory and begins at round one; ours takes a state and gives
the next one. A round that is left half-way has changed nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.app.error import Error
from flwr.common.constant import ErrorCode
from flwr.serverapp.grid import Grid
from flwr.serverapp.strategy import FedAvg
from green_api.base import format_duration
from green_api.errors import GreenError, TaskConfigError
from green_api.federate import Federate

from green_jobs.seeds import derive, seed_all
from green_jobs.tasks.federate.attempt import FIELD
from green_jobs.tasks.federate.errors import CONFIG_CODE, RoundAbandonedError
from green_jobs.tasks.federate.guard import Expected, Fault, Rejection, Sifted, Update, sift
from green_jobs.tasks.federate.records import (
    ARRAYS,
    gather,
    pack,
    read_update,
    size_of,
    spread,
)
from green_jobs.tasks.federate.state import Round, State, Weights
from green_jobs.tasks.federate.strategies import (
    make_strategy,
    merge_buffers,
    moments,
    restore_moments,
    step_field,
)

_POLL_SECONDS: Final = 0.3
_WENT_AWAY: Final = "it went away before it answered"
_LONGEST_REASON: Final = 200
_LOOKS: Final = 3
"""Looks for replies between two looks for who is there."""
_LOST: Final = frozenset(
    {
        ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    }
)  # fmt: skip
_LOG: Final = logging.getLogger(__name__)


class TooFewSitesError(GreenError):
    """Fewer sites than the minimum are there, or sent an update that counts.

    Args:
        missing: sites that are not there.
        rejections: why updates do not count; none where no round was made.
        traffic: by site, bytes of weights sent to it and back in vain.
        is_doomed: the round would fail again, even with the sites that are not there.

    """

    def __init__(
        self,
        missing: Sequence[str],
        rejections: Sequence[Rejection],
        traffic: Mapping[str, int],
        *,
        is_doomed: bool,
    ) -> None:
        self.missing = sorted(missing)
        self.rejections = list(rejections)
        self.traffic = dict(traffic)
        self.is_doomed = is_doomed
        told = [f"{r.site}: {r.reason}" for r in rejections]
        super().__init__("; ".join([*(f"{site} is not there" for site in self.missing), *told]))


@dataclass(frozen=True)
class Federation:
    """The sites of one training, as the server reaches them."""

    grid: Grid
    ids: Mapping[str, int]
    """By site's name, its node."""
    examples: MutableMapping[str, int]
    """By site's name, how many examples it declared; of one that did not answer no more."""
    max_bytes: int
    """Of an update."""
    pause: Callable[[float], None]
    """Waits so many seconds, or less."""
    is_stopped: Callable[[], bool]
    """Whether the round is to be left."""

    def missing(self) -> list[str]:
        """The sites that are not there."""
        online = set(self.grid.get_node_ids())
        return [site for site, node in self.ids.items() if node not in online]

    def ask(self, messages: Iterable[Message], timeout: timedelta) -> dict[str, Message | str]:
        """Send, and wait for everyone who is there; by site its reply, or why it has none.

        A message that a node took before it was killed stays without an answer, also where the node
        is soon back: whoever is seen to be away is not waited for. Nor is one whose node is there,
        but whose trainer hangs, for longer than the timeout.

        Raises:
            RoundAbandonedError: the round is to be left.

        """
        sent = list(messages)
        names = {node: site for site, node in self.ids.items()}
        waiting = {
            message_id: names[message.metadata.dst_node_id]
            for message_id, message in zip(self.grid.push_messages(sent), sent, strict=True)
        }
        replies: dict[str, Message | str] = {}
        looks = 0
        give_up = time.monotonic() + timeout.total_seconds()
        while waiting:
            if self.is_stopped():
                msg = "the round is left; the next start takes it up again"
                raise RoundAbandonedError(msg)
            for message in self.grid.pull_messages(list(waiting)):
                # A reply that tells an error does not come from the node itself.
                replies[waiting.pop(message.metadata.reply_to_message_id)] = message
            looks += 1
            if looks % _LOOKS == 0:
                gone = set(self.missing())
                replies |= self._silent(gone & set(waiting.values()), _WENT_AWAY)
                waiting = {i: site for i, site in waiting.items() if site not in gone}
            if time.monotonic() >= give_up:
                late = f"it did not answer within {format_duration(timeout)}"
                return replies | self._silent(waiting.values(), late)
            if waiting:
                self.pause(_POLL_SECONDS)
        return replies

    def _silent(self, sites: Iterable[str], why: str) -> dict[str, Message | str]:
        """They have to declare their examples anew, which shows whether they answer again."""
        for site in sites:
            self.examples.pop(site, None)
        return dict.fromkeys(sites, why)


@dataclass(frozen=True)
class _Present:
    """All that a strategy sees of a grid: who is there for this round.

    It does not change amid a round, for where a strategy sees too few it waits without limit.
    """

    nodes: Sequence[int]

    def get_node_ids(self) -> list[int]:
        """Whom a strategy may choose."""
        return list(self.nodes)


@dataclass(frozen=True)
class _Answers:
    """What came back in a round."""

    updates: list[Update]
    rejections: list[Rejection]
    replies: dict[str, Message]
    """By site, those that are no error."""
    traffic: dict[str, int]
    """By site that answered, bytes of weights sent to it and back."""


class Rounds:
    """Makes one round after the other.

    Args:
        task: what is asked for.
        federation: the sites.
        trained: names of the parameters; what else the net has are buffers.
        evaluate: the accuracy of weights on the server's test data.
        seed: the choice of sites follows from it.

    """

    def __init__(
        self,
        task: Federate,
        federation: Federation,
        trained: Collection[str],
        evaluate: Callable[[Weights], float],
        seed: int,
    ) -> None:
        self._task = task
        self._federation = federation
        self._trained = frozenset(trained)
        self._evaluate = evaluate
        self._seed = seed
        self._strategy: FedAvg = make_strategy(task)

    def check_enough(self) -> list[str]:
        """The sites that a round has to do without.

        Raises:
            TooFewSitesError: fewer than the minimum are there.

        """
        away = set(self._federation.missing())
        missing = [
            s for s in self._federation.ids if s in away or s not in self._federation.examples
        ]
        if len(self._federation.ids) - len(missing) < self._task.min_sites:
            raise TooFewSitesError(missing, [], {}, is_doomed=False)
        return missing

    def next(self, state: State) -> State:
        """The state after one more round.

        Raises:
            TooFewSitesError: fewer than the minimum took part; nothing has changed.
            RoundAbandonedError: the round is to be left; nothing has changed.
            TaskConfigError: the new weights are no numbers any more, or too many sites cannot work
                as the task is written.

        """
        missing = self.check_enough()
        number = state.next_round
        restore_moments(self._strategy, state.moments)
        sent = pack(state.weights)
        there = [node for site, node in self._federation.ids.items() if site not in missing]
        answers = self._exchange(state, sent, _Present(there))
        sifted, rejections = self._sift(state, answers.updates, answers.rejections)
        good, replies = sifted.good, answers.replies
        if len(good) < self._task.min_sites:
            self._check_configured(rejections)
            silent = [r for r in rejections if r.fault is Fault.SILENT]
            hoped_for = len(good) + len(silent) + len(missing)
            is_doomed = hoped_for < self._task.min_sites
            raise TooFewSitesError(missing, rejections, answers.traffic, is_doomed=is_doomed)
        for update in good:
            arrays = {name: update.arrays[name] for name in self._parameters(state)}
            replies[update.site].content[ARRAYS] = spread(arrays)
        weights = self._aggregate(state, good, [replies[u.site] for u in good])
        done = Round(
            number=number,
            accuracy=self._evaluate(weights),
            loss=_mean_loss(good),
            sites=[update.site for update in good],
            dropped=reasons_of(rejections),
            bytes=answers.traffic,
            examples={u.site: cast("int", u.metrics["num-examples"]) for u in good},
            accuracies={u.site: cast("float", u.metrics["accuracy"]) for u in good},
            lengths=sifted.lengths,
        )
        return state.after_round(weights, moments(self._strategy), done)

    def _exchange(self, state: State, packed: ArrayRecord, present: _Present) -> _Answers:
        # The strategy draws from the global generator.
        seed_all(derive(self._seed, "round", number := state.next_round))
        seen = cast("Grid", present)
        config = ConfigRecord()
        arrays = spread(self._parameters(state))
        messages = list(self._strategy.configure_train(number, arrays, config, seen))
        for order in messages:
            order.content[ARRAYS] = packed
        replies: dict[str, Message] = {}
        traffic: dict[str, int] = {}
        updates, rejections = [], []
        size = size_of(packed)
        answers = self._federation.ask(messages, self._task.round_timeout)
        for site, message in sorted(answers.items()):
            if isinstance(message, str):
                rejections.append(Rejection(site, message, Fault.SILENT))
                continue
            traffic[site] = size
            if message.has_error():
                rejections.append(_rejection_of(site, message.error))
                continue
            replies[site] = message
            traffic[site] += sum(size_of(r) for r in message.content.array_records.values())
            read = read_update(site, message.content, self._federation.max_bytes)
            if isinstance(read, str):
                rejections.append(Rejection(site, read))
            else:
                updates.append(read)
        return _Answers(updates, rejections, replies, traffic)

    def _check_configured(self, rejections: Sequence[Rejection]) -> None:
        """Whether enough sites could work at all; every other one may still be mended or come."""
        unable = [r for r in rejections if r.fault is Fault.CONFIG]
        if len(self._federation.ids) - len(unable) < self._task.min_sites:
            told = "; ".join(f"{r.site}: {r.reason}" for r in unable)
            msg = f"fewer than {FIELD}.minSites: {self._task.min_sites} sites can work: {told}"
            raise TaskConfigError(msg)

    def _sift(
        self, state: State, updates: list[Update], rejections: list[Rejection]
    ) -> tuple[Sifted, list[Rejection]]:
        lengths = [length for done in state.rounds for length in done.lengths.values()]
        expected = Expected(state.weights, self._federation.examples, max(lengths, default=0.0))
        sifted = sift(updates, expected)
        rejections = [*rejections, *sifted.rejected]
        for rejection in rejections:
            _LOG.warning("round %d: %s: %s", state.next_round, rejection.site, rejection.reason)
        return sifted, rejections

    def _parameters(self, state: State) -> Weights:
        """What strategies work on."""
        return {name: array for name, array in state.weights.items() if name in self._trained}

    def _aggregate(self, state: State, good: list[Update], replies: list[Message]) -> Weights:
        number = state.next_round
        aggregated, _ = self._strategy.aggregate_train(number, replies)
        if aggregated is None:
            msg = f"the strategy made nothing of round {number}"
            raise GreenError(msg)
        buffers = {n: array for n, array in state.weights.items() if n not in self._trained}
        new = gather(aggregated) | merge_buffers(self._task, good, buffers)
        weights = {name: new[name].astype(old.dtype) for name, old in state.weights.items()}
        if not all(np.isfinite(array).all() for array in weights.values()):
            field, value = step_field(self._task)
            msg = (
                f"{FIELD}.{field}: {value:g}: the global weights are no numbers any more after "
                f"round {number}; lower it"
            )
            raise TaskConfigError(msg)
        return weights


def _rejection_of(site: str, error: Error) -> Rejection:
    fault = Fault.CONFIG if error.code == CONFIG_CODE else Fault.ANSWER
    # What Flower itself says: the node, or its answer, is not there any more.
    if error.code in _LOST:
        fault = Fault.SILENT
    return Rejection(site, str(error.reason), fault)


def reasons_of(rejections: Iterable[Rejection]) -> dict[str, str]:
    """By site, why its update does not count, cut to what is kept."""
    return {r.site: r.reason[:_LONGEST_REASON] for r in rejections}


def _mean_loss(updates: Sequence[Update]) -> float:
    """By examples; what an update says was checked before."""
    weights = [cast("int", update.metrics["num-examples"]) for update in updates]
    losses = [cast("float", update.metrics["loss"]) for update in updates]
    return sum(loss * n for loss, n in zip(losses, weights, strict=True)) / sum(weights)


def is_over(task: Federate, rounds: Sequence[Round]) -> str:
    """Why no further round is made; empty where one is."""
    if len(rounds) >= task.rounds:
        return f"all {task.rounds} rounds are done"
    if not rounds:
        return ""
    wanted, best = task.stop.accuracy, max(r.accuracy for r in rounds)
    if wanted is not None and rounds[-1].accuracy >= wanted:
        return (
            f"the accuracy of {rounds[-1].accuracy:.4g} reaches the {wanted:g} that was asked for"
        )
    converged = task.stop.converged
    if converged is None or len(rounds) <= converged.rounds:
        return ""
    before = max(r.accuracy for r in rounds[: -converged.rounds])
    if best - before < converged.improvement:
        return f"{converged.rounds} rounds brought no {converged.improvement:g} more of accuracy"
    return ""
