"""Reading what a job has left on its claim, through a helper pod that is gone afterwards."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import IO, Any, Final, NoReturn, cast

from green_api.task import ONLY_ROLE

from green_operator.cli.claim_files import BrokenStreamError, ClaimFile, claim_files
from green_operator.cli.claim_pod import CLAIM_DIR, LONGEST, reader_pod
from green_operator.cli.kubectl import (
    Cluster,
    ClusterError,
    NotFoundError,
    StoredJob,
    refusal,
)
from green_operator.lifecycle.text import printable
from green_operator.objects.names import JOB_LABEL, folder_name, role_folder

_START_SECONDS: Final = 120
_PAUSE_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 5
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HOPELESS: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""Why a container waits that will not start."""


class _NoPodError(ClusterError):
    """The server said that it made no helper pod, or said nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job's folder on its claim, read by a pod that waits to be asked."""

    cluster: Cluster
    namespace: str
    pod: str
    folder: PurePosixPath
    """Relative to the claim's root."""

    @contextmanager
    def read(self, *parts: str) -> Iterator[Iterator[ClaimFile]]:
        """The files of parts of the folder, those that were written last at the end.

        Raises:
            ClusterError: they cannot be read, or not to their end.

        """
        source = files("green_operator.cli").joinpath("claim_reader.py").read_text()
        folder = str(PurePosixPath(CLAIM_DIR) / self.folder)
        command = ("python", "-I", "-c", source, folder, *parts)
        with tempfile.TemporaryFile() as errors:
            process = self.cluster.execute(self.namespace, self.pod, command, errors)
            stream = cast("IO[bytes]", process.stdout)  # it has a pipe
            try:
                found = claim_files(stream)
                yield found
                for _ in found:  # what nobody has asked for: does it end well?
                    pass
            except BrokenStreamError as error:
                _end(process)
                said = refusal(_said(errors)) if _said(errors) else error
                msg = f"the claim could not be read to its end: {said}; try it again"
                raise ClusterError(msg) from None
            finally:
                process.kill()
                process.wait()
                stream.close()


@contextmanager
def open_claim(cluster: Cluster, job: StoredJob, role: str = ONLY_ROLE) -> Iterator[Claim]:
    """A pod that reads the claim of a job's role; it is deleted however this ends.

    Raises:
        ClusterError: nothing can lie there yet, or the pod cannot be made or does not start; the
            message says why and what to do.

    """
    run = _run(cluster, job, role)
    name = f"{job.name}-read-{secrets.token_hex(3)}"
    pods = f"/api/v1/namespaces/{job.namespace}/pods"
    is_made = True
    with _signals(_unwind):
        try:
            _create(cluster, pods, reader_pod(name, job, run, role))
            _wait(cluster, f"{pods}/{name}", name)
            yield Claim(cluster, job.namespace, name, _folder(job, role))
        except _NoPodError:
            # The answer may have been lost, and then the pod is there all the same.
            is_made = False
            raise
        finally:
            with _signals(signal.SIG_IGN):  # the impatient press Ctrl-C twice
                _delete(cluster, pods, job.namespace, name, tells=is_made)


def _run(cluster: Cluster, job: StoredJob, role: str) -> Mapping[str, Any]:
    """The Job of the job's run, whose image reads the claim."""
    if job.claim_of(role) is None:
        msg = (
            f"job {job.name!r} has no claim (spec.storage), so what it wrote is in its pods: "
            f"kubectl logs -n {job.namespace} -l {JOB_LABEL}={job.name}"
        )
        raise ClusterError(msg)
    status = job.status
    if status is None or status.start_time is None or status.run is None:
        state = "has not been planned" if status is None else f"is {status.state.value}"
        msg = f"job {job.name!r} {state} and has not started: nothing of it is on the claim yet"
        raise ClusterError(msg)
    name = status.run.name
    try:
        return cluster.get(f"/apis/batch/v1/namespaces/{job.namespace}/jobs/{name}")
    except NotFoundError:
        msg = (
            f"the Job {name} of the run is gone, and with it the image to read the claim with; "
            f"mount claim {job.claim_of(role)!r} in a pod of your own: the files are in "
            f"{_folder(job, role)}/"
        )
        raise ClusterError(msg) from None


def _folder(job: StoredJob, role: str) -> PurePosixPath:
    """Where the status says that the report is, or where the job writes; below it a site's."""
    path = job.status.report_path if job.status is not None else None
    folder = PurePosixPath(path).parent if path else PurePosixPath(folder_name(job.name, job.uid))
    if folder.is_absolute() or ".." in folder.parts:
        msg = f"status.reportPath: {path!r}: is not on the claim; the job's own image wrote it"
        raise ClusterError(msg)
    return PurePosixPath(role_folder(str(folder), role))


def _create(cluster: Cluster, pods: str, pod: Mapping[str, Any]) -> None:
    try:
        cluster.create(pods, pod)
    except ClusterError as error:
        msg = f"the helper pod that reads the claim cannot be created: {error}"
        raise _NoPodError(msg) from None


def _wait(cluster: Cluster, path: str, name: str) -> None:
    """Until the pod runs.

    Raises:
        ClusterError: it does not, and why.

    """
    end = time.monotonic() + _START_SECONDS
    said = "nothing was heard of it"
    while time.monotonic() < end:
        status = cluster.get(path).get("status") or {}
        if status.get("phase") == "Running":
            return
        if status.get("phase") in {"Failed", "Succeeded"}:
            msg = f"the helper pod {name} ended: {status.get('message') or status.get('reason')}"
            raise ClusterError(msg)
        for container in status.get("containerStatuses", ()):
            waiting = container.get("state", {}).get("waiting", {})
            if waiting.get("reason") in _HOPELESS:
                why = waiting.get("message") or waiting["reason"]
                msg = f"the helper pod {name} cannot start: {why}"
                raise ClusterError(msg)
        said = _why_not_yet(status) or said
        time.sleep(_PAUSE_SECONDS)
    msg = f"the helper pod {name} did not start within {_START_SECONDS} seconds: {said}"
    raise ClusterError(msg)


def _why_not_yet(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    waiting = [
        container.get("state", {}).get("waiting", {})
        for container in status.get("containerStatuses", ())
    ]
    return " ".join(str(w.get("message") or w.get("reason", "")) for w in waiting)


def _delete(cluster: Cluster, pods: str, namespace: str, name: str, *, tells: bool) -> None:
    try:
        cluster.delete(f"{pods}/{name}")
    except NotFoundError:
        pass  # it was never made
    except ClusterError as error:
        if not tells:
            return
        sys.stderr.write(
            f"warning: the helper pod could not be deleted ({error}); it ends by itself after "
            f"{LONGEST.seconds // 60} minutes: kubectl delete pod -n {namespace} {name}\n"
        )


@contextmanager
def _signals(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    """What asks a program to end goes to a handler."""
    before = {number: signal.signal(number, handler) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _unwind(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it say why it broke off."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)


def _said(errors: IO[bytes]) -> str:
    """The last line that was written to standard error."""
    errors.seek(0)
    lines = errors.read()[-10_000:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return printable(last)
