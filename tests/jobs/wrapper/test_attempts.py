"""Attempts as the operator sees them: real processes, exit codes, files and summaries."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from green_api.contract import (
    MAX_LOG_BYTES,
    MAX_SUMMARY_BYTES,
    Mark,
    Outcome,
    digest,
)

from tests.jobs.wrapper.harness import Claim, is_alive, wait_until
from tests.needs import unavailable

Script = Callable[[str], str]

SAVES_ON_SIGTERM = """
import os, signal, sys, time
from green_jobs import progress
def stop(*_):
    progress.report(40, saved=True)
    {on_stop}
signal.signal(signal.SIGTERM, stop)
progress.report(10, phase="training", loss=0.5)
while True:
    time.sleep(0.05)
"""


def test_success_leaves_report_marker_and_summary(claim: Claim, script: Script) -> None:
    program = script(
        "import os, pathlib\n"
        "from green_jobs import progress\n"
        "progress.report(50, loss=0.25)\n"
        "out = pathlib.Path(os.environ['GREEN_OUTPUT_DIR'])\n"
        "(out / 'sub').mkdir(); (out / 'sub/model.bin').write_bytes(b'weights')\n"
        "(out / 'link').symlink_to('/etc/passwd')\n"
        "progress.report(100, saved=True, accuracy=0.9)\n"
        "print('to stdout'); print('to stderr', file=__import__('sys').stderr)\n"
    )
    attempt = claim.run(sys.executable, program)
    assert attempt.process.returncode == 0
    summary, report = attempt.summary, claim.report
    assert (summary.attempt, summary.outcome) == ("a1", Outcome.SUCCEEDED)
    assert summary.report_path == "jobs/j/report.json"
    assert summary.report_sha256 == digest((claim.folder / "report.json").read_bytes())
    assert summary.result is not None
    assert summary.result.metrics == report.result.metrics == {"loss": 0.25, "accuracy": 0.9}
    [artifact] = report.artifacts
    assert artifact.path == "jobs/j/output/sub/model.bin"
    assert (artifact.bytes, artifact.sha256) == (7, digest(b"weights"))
    assert claim.is_done
    assert claim.marks() == [Mark.STARTED, Mark.WORKING, Mark.SAVED, Mark.ENDED]
    assert summary.final == claim.journal[-1] == report.journal[-1]
    log = (claim.folder / "logs/a1.log").read_text()
    assert sorted(log.splitlines()) == ["to stderr", "to stdout"]
    assert sorted(attempt.printed.splitlines()) == ["to stderr", "to stdout"]


def test_finished_work_is_only_told_again(claim: Claim) -> None:
    first = claim.run("true")
    before = {path: path.stat().st_mtime_ns for path in claim.folder.rglob("*")}
    second = claim.run("false", uid="a2")
    assert second.process.returncode == 0
    assert second.summary.attempt == "a2"
    assert second.summary.final is None
    assert second.summary.report_sha256 == first.summary.report_sha256
    assert {path: path.stat().st_mtime_ns for path in claim.folder.rglob("*")} == before


@pytest.mark.parametrize("damage", ["marker", "report"])
def test_unsound_marker_does_not_count(claim: Claim, damage: str) -> None:
    claim.run("true")
    name = {"marker": "done.json", "report": "report.json"}[damage]
    (claim.folder / name).write_text('{"attempt": ')
    again = claim.run("sh", "-c", "touch $GREEN_OUTPUT_DIR/again", uid="a2")
    assert again.process.returncode == 0
    assert again.summary.final is not None
    assert (claim.folder / "output/again").exists()
    assert claim.is_done


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("echo one >&2; echo 'RuntimeError: two' >&2; exit 3", 3, "RuntimeError: two"),
        ("kill -9 $$", 137, "killed by signal 9 (out of memory?)"),
        ("exit 65", 65, "the command ended with exit code 65"),
    ],
)
def test_failure_is_explained(claim: Claim, command: str, code: int, message: str) -> None:
    attempt = claim.run("sh", "-c", command)
    assert attempt.process.returncode == code
    assert (attempt.summary.outcome, attempt.summary.message) == (Outcome.FAILED, message)
    assert attempt.summary.final is not None
    assert attempt.summary.report_sha256 is None
    assert claim.marks() == [Mark.STARTED, Mark.ENDED]
    assert not claim.is_done


def test_broken_limit_keeps_its_report_without_a_marker(claim: Claim) -> None:
    attempt = claim.run("sh", "-c", "exit 66")
    assert attempt.process.returncode == 66
    assert attempt.summary.outcome is claim.report.outcome is Outcome.FAILED
    assert attempt.summary.report_sha256 == digest((claim.folder / "report.json").read_bytes())
    assert not claim.is_done


@pytest.mark.parametrize(
    ("on_stop", "code", "outcome"),
    [
        ("sys.exit(75)", 75, Outcome.INTERRUPTED),
        ("sys.exit(0)", 75, Outcome.INTERRUPTED),
        ("progress.done(); sys.exit(0)", 0, Outcome.SUCCEEDED),
    ],
)
def test_sigterm_lets_the_worker_save(
    claim: Claim, script: Script, on_stop: str, code: int, outcome: Outcome
) -> None:
    program = script(SAVES_ON_SIGTERM.format(on_stop=on_stop))
    attempt = claim.start(sys.executable, program)
    wait_until(lambda: Mark.WORKING in claim.marks())
    assert attempt.stop() == code
    assert attempt.summary.outcome is outcome
    assert claim.marks() == [Mark.STARTED, Mark.WORKING, Mark.SAVED, Mark.ENDED]
    assert claim.is_done == (code == 0)


def test_a_worker_that_ignores_sigterm_is_killed_within_the_grace_period(claim: Claim) -> None:
    attempt = claim.start(
        "sh", "-c", "trap '' TERM; touch $GREEN_OUTPUT_DIR/on; while :; do sleep 0.1; done",
        gracePeriodSeconds=1,
    )  # fmt: skip
    wait_until((claim.folder / "output/on").exists)
    assert attempt.stop() == 75
    assert claim.marks() == [Mark.STARTED, Mark.ENDED]


def test_nothing_of_the_workers_group_is_left(claim: Claim) -> None:
    claim.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! > $GREEN_OUTPUT_DIR/pid")
    pid = int((claim.folder / "output/pid").read_text())
    wait_until(lambda: not is_alive(pid))


def test_a_daemon_that_keeps_the_output_open_does_not_hold_up_the_end(claim: Claim) -> None:
    attempt = claim.run("sh", "-c", "setsid sleep 1000 & echo $! > $GREEN_OUTPUT_DIR/pid")
    os.kill(int((claim.folder / "output/pid").read_text()), signal.SIGKILL)
    assert attempt.process.returncode == 0


def test_as_process_1_it_takes_sigterm_and_buries_orphans(claim: Claim) -> None:
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        unavailable("a PID namespace can be made by root alone, where that is allowed")
    orphan = "(sh -c 'sleep 0.2; :' &); sleep 0.5; touch $GREEN_OUTPUT_DIR/on; sleep 1000"
    attempt = claim.start("sh", "-c", orphan, prefix=unshare)
    wait_until((claim.folder / "output/on").exists)
    first = int(children_of(attempt.process.pid)[0])
    wait_until(lambda: len(children_of(first)) == 1)
    os.kill(first, signal.SIGTERM)
    assert attempt.wait() == 75
    assert claim.marks() == [Mark.STARTED, Mark.ENDED]


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_worker_dies_with_a_killed_supervisor_and_the_next_attempt_goes_on(claim: Claim) -> None:
    attempt = claim.start("sh", "-c", "echo $$ > $GREEN_OUTPUT_DIR/pid; exec sleep 1000")
    pid_file = claim.folder / "output/pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text())
    attempt.process.kill()
    wait_until(lambda: not is_alive(int(pid_file.read_text())))
    with (claim.folder / "journal/a1.jsonl").open("ab") as file:
        file.write(b'{"sequence":2,"attem')  # torn by the kill
    second = claim.run("true", uid="a2")
    assert second.process.returncode == 0
    sequences = [entry.sequence for entry in claim.journal]
    assert len(sequences) == 3
    assert sequences == sorted(set(sequences))
    assert [entry.attempt for entry in claim.report.journal] == ["a1", "a2"]


def test_killed_runner_ends_its_job_in_order(claim: Claim, script: Script) -> None:
    program = script("import subprocess, sys\nsubprocess.run(sys.argv[1:])\n")
    runner = claim.start("sleep", "1000", prefix=[sys.executable, program])
    wait_until(lambda: claim.marks() == [Mark.STARTED])
    runner.process.kill()
    wait_until(lambda: claim.marks() == [Mark.STARTED, Mark.ENDED])
    wait_until(runner.termination_file.exists)


def test_superseded_attempt_stops_and_writes_nothing_more(claim: Claim) -> None:
    old = claim.start(
        "sh", "-c", "trap 'touch $GREEN_OUTPUT_DIR/late' TERM; while :; do sleep 0.1; done",
        journalIntervalSeconds=1,
    )  # fmt: skip
    wait_until(lambda: Mark.STARTED in claim.marks("a1"))
    new = claim.start("sleep", "1000", uid="a2")
    assert old.wait() == 75
    assert old.summary.outcome is Outcome.INTERRUPTED
    assert "a2" in old.summary.message
    wait_until(lambda: Mark.STARTED in claim.marks("a2"))
    assert Mark.ENDED not in claim.marks("a1")
    assert not (claim.folder / "output/late").exists()
    assert new.stop() == 75
    sequences = [entry.sequence for entry in claim.journal]
    assert len(set(sequences)) == len(sequences)


def test_progress_is_told_over_http(claim: Claim, script: Script) -> None:
    claim.run("false", uid="a0")
    program = script(
        "import time\nfrom green_jobs import progress\n"
        "progress.report(20, phase='warming up', loss=2)\ntime.sleep(0.3)\n"
        "progress.report(30, phase='training', saved=True)\ntime.sleep(1000)\n"
    )
    attempt = claim.start(sys.executable, program, journalIntervalSeconds=3600)
    wait_until(lambda: Mark.SAVED in claim.marks())
    wait_until(lambda: attempt.ask().progress.percentage == 30)
    reply = attempt.ask()
    assert (reply.attempt, reply.progress.phase) == ("a1", "training")
    assert reply.progress.metrics == {"loss": 2}
    assert reply.progress.estimated_remaining_seconds is not None
    assert reply.progress.estimated_remaining_seconds > 0
    assert reply.entries == claim.journal
    assert {entry.attempt for entry in reply.entries} == {"a0", "a1"}
    assert reply.current.sequence == reply.entries[-1].sequence
    assert reply.current.counters
    assert not reply.more
    assert attempt.ask(after=reply.current.sequence).entries == []

    def status(path: str, method: str = "GET") -> int:
        url = f"http://127.0.0.1:{attempt.port}{path}"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10)
        return caught.value.code

    assert status("/") == 404
    assert status("/v1/progress/") == 404
    assert status("/v1/progress", "POST") == 405
    assert status("/v1/progress", "DELETE") == 405
    assert status("/v1/progress?after=-1") == 400
    assert status("/v1/progress?after=" + "9" * 30) == 400
    with socket.create_connection(("127.0.0.1", attempt.port)) as rude:
        rude.sendall(b"GET /v1/progress HTTP/1.0\r\n\r\n")
    assert attempt.ask().attempt == "a1"
    assert attempt.stop() == 75
    assert attempt.printed == ""


def test_a_port_in_use_is_only_a_warning(claim: Claim) -> None:
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        attempt = claim.run("true", environment={"GREEN_PROGRESS_PORT": port})
    assert attempt.process.returncode == 0
    assert f"port {port}" in attempt.printed


def test_log_on_the_claim_is_cut_and_the_pods_own_is_not(claim: Claim) -> None:
    size = MAX_LOG_BYTES + 1_000_000
    attempt = claim.run("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; echo; echo the end")
    assert attempt.process.returncode == 0
    log = (claim.folder / "logs/a1.log").read_bytes()
    assert log[:MAX_LOG_BYTES] == b"x" * MAX_LOG_BYTES
    assert 0 < len(log) - MAX_LOG_BYTES < 200
    assert b"limit" in log[MAX_LOG_BYTES:]
    assert attempt.printed == "x" * size + "\nthe end\n"


def test_summary_fits_whatever_the_worker_says(claim: Claim, script: Script) -> None:
    program = script(
        "from green_jobs import progress\n"
        "progress.report(**{f'{i:02}' + 'm' * 100: i / 3 for i in range(50)})\n"
    )
    attempt = claim.run(sys.executable, program)
    assert attempt.process.returncode == 0
    assert attempt.termination_file.stat().st_size <= MAX_SUMMARY_BYTES
    assert attempt.summary.report_sha256 is not None
    assert len(claim.report.result.metrics) == 32


class TestFullDisk:
    @pytest.fixture(autouse=True)
    def _small_disk(self, claim: Claim) -> Iterator[None]:
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(claim.root)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            unavailable("a small disk can be mounted by root alone, where that is allowed")
        yield
        for attempt in claim.attempts:
            attempt.process.kill()
            attempt.process.wait()
        subprocess.run(["umount", "-l", str(claim.root)], check=True)

    FILL = "head -c 1000000 /dev/zero > $GREEN_OUTPUT_DIR/big; "

    def test_journal_is_caught_up_when_there_is_room_again(self, claim: Claim) -> None:
        # The first entry ends shortly before the end of a page, so that the second needs room and
        # is torn.
        (claim.folder / "journal").mkdir(parents=True)
        (claim.folder / "journal/a1.jsonl").write_bytes(b"{" * (4096 - 300))
        attempt = claim.run(
            "sh", "-c", self.FILL + "echo full; sleep 2.5; rm $GREEN_OUTPUT_DIR/big",
            journalIntervalSeconds=1,
        )  # fmt: skip
        assert attempt.process.returncode == 0
        assert "journal cannot be written" in attempt.printed
        entries = claim.journal
        sequences = [entry.sequence for entry in entries]
        assert sequences == sorted(set(sequences))
        assert Mark.BOUNDARY in {entry.mark for entry in entries}

    def test_result_that_cannot_be_recorded_is_no_success(self, claim: Claim) -> None:
        attempt = claim.run("sh", "-c", self.FILL + "echo still printed")
        assert attempt.process.returncode == 1
        assert "still printed" in attempt.printed
        assert "No space left" in attempt.summary.message
        assert not claim.is_done


def test_job_without_a_claim_works_in_a_temporary_folder(claim: Claim) -> None:
    attempt = claim.run(
        "sh", "-c", 'test -d "$GREEN_CHECKPOINT_DIR" && test -d "$GREEN_OUTPUT_DIR"',
        environment={"GREEN_CLAIM_DIR": ""},
    )  # fmt: skip
    assert attempt.process.returncode == 0
    assert attempt.summary.report_path is None
    assert attempt.summary.report_sha256 is not None
    assert list(claim.root.iterdir()) == []


def test_code_on_the_claim_is_found(claim: Claim) -> None:
    (claim.root / "code").mkdir()
    (claim.root / "code/mine.py").write_text("print('found')")
    assert "found" in claim.run(sys.executable, "-m", "mine").printed


def test_reserved_power_stands_for_gpus_that_cannot_be_read(claim: Claim) -> None:
    attempt = claim.run("true", gpus=2)
    assert attempt.summary.final is not None
    gpu, cpu = attempt.summary.final.counters
    assert (gpu.component, gpu.provenance, gpu.method) == ("gpu", "Estimated", "reserved")
    assert gpu.joules > 0
    assert cpu.component == "cpu"


def test_a_state_that_is_none_is_ignored(claim: Claim) -> None:
    attempt = claim.run("sh", "-c", 'echo "{" > $GREEN_PROGRESS_FILE; sleep 0.5')
    assert attempt.process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "document", "code", "message"),
    [
        ((), {}, {}, 64, "usage"),
        (("exec", "--"), {}, {}, 64, "usage"),
        (("exec", "true"), {}, {}, 64, "usage"),
        (("run",), {}, {}, 64, "exec -- COMMAND"),
        (("exec", "--", "true"), {"GREEN_TASK_FILE": ""}, {}, 64, "GREEN_TASK_FILE is not set"),
        (("exec", "--", "true"), {"GREEN_TASK_FILE": "/none"}, {}, 64, "No such file"),
        (("exec", "--", "true"), {"GREEN_ATTEMPT_UID": "../x"}, {}, 64, "cannot name a file"),
        (("exec", "--", "true"), {"GREEN_PROGRESS_PORT": "http"}, {}, 64, "is no port"),
        (("exec", "--", "true"), {}, {"cores": 0}, 65, "cores"),
        (("exec", "--", "true"), {}, {"folder": "../other"}, 65, "not a folder on the claim"),
        (("exec", "--", "no-such-program"), {}, {}, 65, "no-such-program"),
    ],
)
def test_what_cannot_run_says_why(
    claim: Claim,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    document: dict[str, object],
    code: int,
    message: str,
) -> None:
    attempt = claim.start(arguments=arguments or ("nonsense",), environment=environment, **document)
    assert attempt.wait() == code
    assert message in attempt.printed
    if message != "usage":
        assert message in attempt.summary.message
        assert attempt.summary.outcome is Outcome.FAILED


def test_the_supervisor_imports_no_torch() -> None:
    check = "import sys, green_jobs.launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_sigint_stops_like_sigterm(claim: Claim) -> None:
    attempt = claim.start("sleep", "1000")
    wait_until(lambda: claim.marks() == [Mark.STARTED])
    attempt.process.send_signal(signal.SIGINT)
    assert attempt.wait() == 75


def test_folder_that_cannot_be_used_is_a_failure_that_may_be_retried(claim: Claim) -> None:
    (claim.root / "jobs").write_text("in the way")
    attempt = claim.run("true")
    assert attempt.process.returncode == 1
    assert str(claim.root / "jobs") in attempt.summary.message
