"""The attempts of one role of a job: started, asked, stopped and seen to end."""

from __future__ import annotations

import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psutil
from green_api.contract import Federation, JournalEntry, Outcome, Summary, TaskDocument

from green_operator.local import process
from green_operator.local.progress import ask
from green_operator.local.state import AttemptState, RoleState
from green_operator.local.views import with_entries

# How long a silent attempt is taken to be only starting up.
_SILENCE: Final = timedelta(seconds=10)
_ASK_EVERY: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a role's attempts work."""

    claim: Path
    private: Path
    workplace: Path


class Attempts:
    """The processes of one role; what is known of them is in ``state``."""

    def __init__(
        self, state: RoleState, document: TaskDocument, env: dict[str, str], place: Place
    ) -> None:
        self.state = state
        self._document = document
        self._env = env
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = datetime.min.replace(tzinfo=UTC)
        self._kill_at: datetime | None = None
        self.answers = True

    @property
    def active(self) -> AttemptState | None:
        """The attempt that runs or terminates."""
        return self.state.active

    def start(self, run: int, wall: datetime) -> None:
        """Note a new attempt; ``launch`` starts its process once the note is saved."""
        attempt = AttemptState(
            uid=str(uuid.uuid4()),
            run=run,
            port=process.free_port(),
            started=wall,
            last_seen=wall,
        )
        self._asked, self.answers = wall, True
        self.state = self.state.with_changes(attempts=[*self.state.attempts, attempt])

    @property
    def is_to_launch(self) -> bool:
        """An attempt is noted whose process is not started yet."""
        return self.active is not None and self._process is None

    def launch(self, federation: Federation | None = None, credentials: Path | None = None) -> None:
        """Start the process of a noted attempt: no energy is used that nobody knows of.

        Args:
            federation: what a federated role is told beside its task.
            credentials: folder with its keys and certificates.

        """
        attempt = self.active
        if attempt is None or self._process is not None:
            return
        document = self._document.model_copy(update={"federation": federation})
        launch = process.Launch(
            attempt.uid, document, self._place.claim, self._place.workplace,
            self._place.private, self._env, credentials,
        )  # fmt: skip
        self._process = process.start(launch, attempt.port)

    def stop(self, wall: datetime, *, at_once: bool = False) -> None:
        """Ask the active attempt to checkpoint and end; how it ends then is no failure.

        Args:
            wall: the time.
            at_once: do not wait until it has done so.

        """
        attempt = self.active
        if attempt is None or self._process is None:
            return
        if attempt.stopping:
            self._kill_at = wall if at_once else self._kill_at
            return
        self._ask(attempt, wall)
        self._update(stopping=True)
        self._kill_at = wall + timedelta(seconds=self._document.grace_period_seconds)
        self._process.terminate()

    def observe(self, wall: datetime) -> bool:
        """See whether the active attempt has ended, else ask it; whether anything new was seen."""
        attempt = self.active
        if attempt is None or self._process is None:
            return False
        code = self._process.poll()
        if code is not None:
            # A process that a signal ended has 128 and its number as exit code, as in a pod.
            self._ended(attempt, wall, code if code >= 0 else 128 - code)
            return True
        if self._kill_at is not None and wall >= self._kill_at:
            self._process.kill()
        if wall < self._asked + _ASK_EVERY:
            return False
        self._ask(attempt, wall)
        return True

    def recover(self, wall: datetime) -> None:
        """Take over after a time away: an attempt that still runs is on its way down.

        The attempt gets SIGTERM when its runner dies. It is waited for, never joined: nothing else
        may start before it is gone.
        """
        attempt = self.active
        if attempt is None:
            return
        give_up = time.monotonic() + self._document.grace_period_seconds
        while alive := process.find(attempt.uid):
            late = time.monotonic() > give_up
            with suppress(psutil.NoSuchProcess):
                alive[0].kill() if late else alive[0].terminate()
            time.sleep(0.5)
        self._ended_unseen(attempt, wall)

    def _ended(self, attempt: AttemptState, wall: datetime, code: int) -> None:
        self._process, self._kill_at = None, None
        summary = process.read_summary(self._place.private, attempt.uid)
        self.state = with_entries(self.state, _entries(summary))
        words = "" if summary else process.log_tail(self._place.private, attempt.uid)
        self._update(ended=wall, last_seen=wall, exit_code=code, summary=summary, last_words=words)
        if self.state.attempts[-1].counts_as_failure:
            # What it did since its last checkpoint is lost; the next attempt says where it stands.
            self.state = self.state.with_changes(progress=None)

    def _ended_unseen(self, attempt: AttemptState, wall: datetime) -> None:
        """An end that nobody saw: by its own word, else within an interval of its last sign."""
        interval = timedelta(seconds=self._document.journal_interval_seconds)
        summary = process.read_summary(self._place.private, attempt.uid)
        final = summary.final if summary is not None else None
        self.state = with_entries(self.state, _entries(summary))
        done = summary is not None and summary.outcome is Outcome.SUCCEEDED
        if not process.was_started(self._place.private, attempt.uid):
            last_sign = attempt.started
        else:
            last_sign = min(wall, attempt.last_seen + interval)
        self._update(
            ended=final.time if final else last_sign,
            disrupted=True,
            summary=summary,
            exit_code=0 if done else None,
        )

    def _ask(self, attempt: AttemptState, wall: datetime) -> None:
        self._asked = wall
        reply = ask(attempt.port, attempt.uid, self.state.heard)
        if reply is None:
            self.answers = wall < attempt.last_seen + _SILENCE
            return
        self.answers = True
        self.state = with_entries(self.state, reply.entries)
        heard = max((e.sequence for e in reply.entries), default=self.state.heard)
        self.state = self.state.with_changes(progress=reply.progress, heard=heard)
        self._update(last_seen=wall, current=reply.current)

    def _update(self, **changes: object) -> None:
        """Change the newest attempt."""
        *others, last = self.state.attempts
        changed = last.model_copy(update=changes)
        self.state = self.state.with_changes(attempts=[*others, changed])


def _entries(summary: Summary | None) -> list[JournalEntry]:
    """What a termination message says of the journal."""
    if summary is None:
        return []
    return [*summary.kept, *([summary.final] if summary.final is not None else [])]
