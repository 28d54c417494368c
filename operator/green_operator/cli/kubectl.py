"""A cluster through ``kubectl``: the caller's own configuration, sign-in and rights.

``kubectl`` knows every way to sign in and takes 60 ms; to import the Python client takes a second.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit

from green_api import GROUP, VERSION
from green_api.errors import UserError
from green_api.status import JobStatus
from pydantic import ValidationError

from green_operator.lifecycle.text import printable

_JOBS: Final = f"/apis/{GROUP}/{VERSION}"
_EVENTS: Final = "/apis/events.k8s.io/v1"
_PAGE: Final = 500
_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_SECONDS: Final = 15
_LONGEST_SECONDS: Final = 60
"""For a sign-in that asks elsewhere first."""


class ClusterError(UserError):
    """The cluster could not be read, or has no such job."""


class NotFoundError(ClusterError):
    """The server has no such path or object."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as the cluster has it.

    What another version has written is shown as far as it goes, so the spec stays as it is.
    """

    namespace: str
    name: str
    uid: str
    created: datetime
    generation: int
    spec: Mapping[str, Any]
    raw_status: Mapping[str, Any]
    status: JobStatus | None
    """None where no operator has written one, or one that this version cannot read."""

    @property
    def is_reconciled(self) -> bool:
        """An operator has written its status."""
        return bool(self.raw_status)

    @property
    def claim(self) -> str | None:
        """The claim that it keeps its work on."""
        name = (self.spec.get("storage") or {}).get("claimName")
        return None if name is None else str(name)

    def claim_of(self, role: str) -> str | None:
        """The claim that a role works on: a site's own, else the job's."""
        sites = ((self.spec.get("task") or {}).get("federate") or {}).get("sites") or ()
        own = [str(site["claimName"]) for site in sites if site.get("name") == role]
        return own[0] if own else self.claim


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event about a job."""

    time: datetime
    is_warning: bool
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as the caller's kubeconfig names it."""

    context: str
    namespace: str
    """Where jobs are looked for: the caller's choice, or the context's own."""
    flags: tuple[str, ...]
    """What makes ``kubectl`` use just this one."""
    prefix: str = ""
    """What stands before each path, where the API is served through a proxy's path."""

    @classmethod
    def open(cls, namespace: str | None, context: str | None, kubeconfig: str | None) -> Cluster:
        """The cluster of a context, by default the current one; it is not asked yet.

        Raises:
            ClusterError: there is no kubeconfig, or no such context in it.

        """
        file = ("--kubeconfig", kubeconfig) if kubeconfig is not None else ()
        config = json.loads(_kubectl("config", "view", "--output=json", *file))
        name = context or config.get("current-context") or ""
        contexts = {c["name"]: c.get("context") or {} for c in config.get("contexts") or ()}
        if name not in contexts:
            raise ClusterError(_no_context(name, list(contexts), kubeconfig))
        where = namespace or contexts[name].get("namespace") or "default"
        _check_name("namespace", where)
        servers = {c["name"]: c["cluster"].get("server", "") for c in config.get("clusters") or ()}
        prefix = urlsplit(servers.get(contexts[name].get("cluster"), "")).path.rstrip("/")
        return cls(name, where, (*file, "--context", name), prefix)

    def jobs(self, *, everywhere: bool = False) -> list[StoredJob]:
        """The jobs of the namespace, or of all of them, by name.

        Raises:
            ClusterError: they cannot be read.

        """
        place = "all namespaces" if everywhere else f"namespace {self.namespace}"
        path = _path(_JOBS, "" if everywhere else self.namespace, "greentrainingjobs")
        try:
            bodies = self._list(path)
        except NotFoundError:
            raise ClusterError(self._not_installed()) from None
        except ClusterError as error:
            msg = f"the jobs of {place} cannot be listed: {error}"
            raise ClusterError(msg) from None
        return sorted((stored_job(b) for b in bodies), key=lambda j: (j.namespace, j.name))

    def job(self, name: str) -> StoredJob:
        """One job.

        Raises:
            ClusterError: there is none of that name, or it cannot be read.

        """
        _check_name("job", name)
        try:
            body = self.get(_path(_JOBS, self.namespace, "greentrainingjobs", name))
        except NotFoundError as error:
            # The server names the object that it has not; of a kind that it has not it says less.
            if not str(error).endswith("not found"):
                raise ClusterError(self._not_installed()) from None
            near = get_close_matches(name, self._names(), cutoff=0.6)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            msg = f"there is no job {name!r} in namespace {self.namespace}{hint}"
            raise ClusterError(msg) from None
        return stored_job(body)

    def events(self, job: StoredJob) -> list[StoredEvent]:
        """What was told of a job, oldest first; the server forgets events after an hour or so.

        Raises:
            ClusterError: they cannot be read.

        """
        selector = f"regarding.kind=GreenTrainingJob,regarding.uid={job.uid}"
        path = _path(_EVENTS, job.namespace, "events")
        bodies = self._list(path, fieldSelector=selector)
        return sorted((_stored_event(b) for b in bodies), key=lambda e: e.time)

    def get(self, path: str) -> dict[str, Any]:
        """One object by its path on the server.

        Raises:
            NotFoundError: there is none.
            ClusterError: it cannot be read.

        """
        # kubectl takes a raw path as it is.
        text = _kubectl("get", "--raw", self.prefix + path, *self._request())
        body: dict[str, Any] = _printable(json.loads(text))
        return body

    def create(self, path: str, body: Mapping[str, Any]) -> None:
        """Create an object in a collection.

        Raises:
            ClusterError: the server refuses it.

        """
        where = ("--raw", self.prefix + path, "--filename=-")
        _kubectl("create", *where, *self._request(), stdin=json.dumps(body))

    def delete(self, path: str) -> None:
        """Delete an object; whoever interrupts the caller does not interrupt this.

        Raises:
            NotFoundError: there is none.
            ClusterError: the server refuses it.

        """
        _kubectl("delete", "--raw", self.prefix + path, *self._request(), is_guarded=True)

    def execute(
        self, namespace: str, pod: str, command: Sequence[str], errors: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command in a pod; it prints into the process's pipe, its errors to a file."""
        arguments = ("exec", "--quiet", *self.flags, "--namespace", namespace, pod, "--")
        return subprocess.Popen(  # noqa: S603 - a list, no shell
            [_program(), *arguments, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )

    def _request(self) -> tuple[str, ...]:
        return (f"--request-timeout={_SECONDS}s", *self.flags)

    def _names(self) -> list[str]:
        """The names of the jobs, as far as they may be listed."""
        try:
            return [job.name for job in self.jobs()]
        except ClusterError:
            return []

    def _list(self, path: str, **query: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        parameters = {"limit": str(_PAGE), **query}
        while True:
            page = self.get(f"{path}?{urlencode(parameters)}")
            items += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return items
            parameters["continue"] = following

    def _not_installed(self) -> str:
        return (
            f"the cluster of context {self.context} has no GreenTrainingJobs: install the "
            "definitions in crds/ and the operator, or choose another --context"
        )


def stored_job(body: Mapping[str, Any]) -> StoredJob:
    """A job from the object that the server gives."""
    meta, raw = body["metadata"], body.get("status") or {}
    try:
        status = JobStatus.model_validate(raw) if raw else None
    except ValidationError:
        status = None
    return StoredJob(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        generation=meta.get("generation", 0),
        spec=body.get("spec") or {},
        raw_status=raw,
        status=status,
    )


def _stored_event(body: Mapping[str, Any]) -> StoredEvent:
    time = body.get("eventTime") or body["metadata"]["creationTimestamp"]
    return StoredEvent(
        time=datetime.fromisoformat(time),
        is_warning=body.get("type") == "Warning",
        reason=body.get("reason") or "",
        note=body.get("note") or "",
    )


def _path(prefix: str, namespace: str, *parts: str) -> str:
    place = ("namespaces", namespace) if namespace else ()
    return "/".join([prefix, *place, *parts])


def _printable(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Without control characters: what a pod wrote must not steer the reader's terminal."""
    if isinstance(value, str):
        return printable(value, keep="\n")
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return value


def _check_name(kind: str, name: str) -> None:
    """What is no name must not become another path."""
    if not _NAME.fullmatch(name):
        msg = f"{kind} {name!r}: is no name; names have lower-case letters, digits, '-' and '.'"
        raise ClusterError(msg)


def _no_context(name: str, known: list[str], kubeconfig: str | None) -> str:
    if known and name:
        return f"the kubeconfig has no context {name!r}; it has {', '.join(known)}"
    if known:
        return f"the kubeconfig has no current context: choose --context {' or '.join(known)}"
    where = kubeconfig or "$KUBECONFIG and ~/.kube/config"
    return f"there is no kubeconfig ({where}): nothing says which cluster to ask"


def _program() -> str:
    program = shutil.which("kubectl")
    if program is None:
        msg = "kubectl is not on the PATH: clusters are read with it"
        raise ClusterError(msg)
    return program


def _kubectl(*arguments: str, stdin: str = "", is_guarded: bool = False) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell
            [_program(), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
            # A terminal's signals go to a whole group of processes.
            start_new_session=is_guarded,
        )
    except subprocess.TimeoutExpired:
        msg = f"the cluster did not answer within {_LONGEST_SECONDS} seconds"
        raise ClusterError(msg) from None
    if done.returncode != 0:
        raise refusal(done.stderr)
    return done.stdout


def refusal(stderr: str) -> ClusterError:
    """What ``kubectl`` says, in one line; its last one tells the cause."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "kubectl failed without a word"
    if said.startswith("Error from server (NotFound)"):
        return NotFoundError(said)
    if said.startswith("Error from server (Forbidden)"):
        return ClusterError(f"you lack the right: {said.partition(' forbidden: ')[2] or said}")
    if "(Unauthorized)" in said:
        return ClusterError("the cluster does not know you: sign in again")
    return ClusterError(said.removeprefix("error: "))
