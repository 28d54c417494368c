"""``kubectl green`` against the real API server: what a person reads of jobs in a cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from green_api.base import format_time

from tests.cluster.harness.client import GREEN_JOBS, Object
from tests.cluster.harness.script import UNTIL_TOLD, Pending, Script
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import SOON, World, now

PROGRAM = Path(sys.executable).parent / "kubectl-green"
FORBIDDEN_WORDS = ("carbon neutral", " net ", "avoided")


class Green:
    """The command line of a person with a kubeconfig."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kubeconfig: Path | None = world.plane.admin_kubeconfig

    def run(self, *arguments: str, columns: int = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAM), *arguments], env=self._environment(columns), capture_output=True,
            text=True, timeout=150,
        )  # fmt: skip

    def shell(self, command: str) -> None:
        """A line that it told to run."""
        subprocess.run(command, shell=True, check=True, env=self._environment(100))

    def _environment(self, columns: int) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(self.world.plane.programs['kubectl']).parent}:/usr/bin:/bin",
            "KUBECONFIG": str(self.kubeconfig or "/nowhere/config"),
            "HOME": str(self.world.folder),
            "COLUMNS": str(columns),
            "NO_COLOR": "1",
        }

    def __call__(self, command: str, *arguments: str, columns: int = 100) -> str:
        """What it prints of this world's namespace; the words of a text wherever it is folded."""
        done = self.run(command, "-n", self.world.namespace, *arguments, columns=columns)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def text(self, command: str, *arguments: str) -> str:
        """The same as one line."""
        return " ".join(self(command, *arguments, columns=80).split())

    def error(self, *arguments: str) -> str:
        """The one line that says what is wrong."""
        done = self.run(*arguments)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        return line


@pytest.fixture
def green(world: World) -> Green:
    return Green(world)


def wait_for_clean_power(world: World) -> None:
    """A trace that is dirty for an hour and then clean."""
    world.set_zone(world.set_trace([400] * 12 + [100] * 30, now() - timedelta(minutes=1)))


# -- a job's life, as the operator writes it


def test_a_job_that_waits(world: World, green: Green) -> None:
    wait_for_clean_power(world)
    world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "30m", "completeWithin": "6h"})
    world.wait("shrink", "Planned")

    header, row = green("list").splitlines()
    assert header.split() == ["Name", "State", "Now", "Deadline", "Difference", "Energy", "Zone"]
    assert row.startswith("shrink  Planned  in 5")
    assert "m, cleaner power" in row
    assert "in 6h" in row
    assert "+75 % expected" in row
    assert row.split()[-1] == world.zone

    page = green.text("explain", "shrink")
    assert page.startswith(f"shrink in {world.namespace} Planned")
    assert "Waits for cleaner power; it starts at" in page
    assert "emit 200 mg as planned, at 100 gCO2e/kWh, instead of 800 mg if run at once" in page
    assert "an expected difference of +600 mg (75 %)" in page
    assert "Starting now would cost 600 mg more." in page
    assert "expected to use 2 Wh (estimated)" in page
    assert "Its deadline is" in page
    assert "Whatever the grid is like, it starts by" in page
    assert "Planned Waits until" in page, "the event"
    assert "Problems" not in page
    assert not any(word in page for word in FORBIDDEN_WORDS)

    plan = green("plan", "shrink", columns=80)
    assert "Waits until" in plan
    for line in ("As planned 100 gCO2e/kWh 2 Wh 200 mg", "Run at once 400 gCO2e/kWh 2 Wh 800 mg"):
        assert line in " ".join(plan.split())
    assert "30m" in plan
    (bar,) = [line.strip() for line in plan.splitlines() if line.count("░") > 9]
    assert bar.startswith("░░░░░░░░░░")
    # Half an hour of six, an hour from now.
    assert 5 <= bar.count("█") <= 8
    assert 9 <= bar.index("█") <= 13
    assert "latest start ▼" in plan
    assert "Energy, Estimated" in plan


def test_a_job_that_runs_and_ends_well(world: World, green: Green) -> None:
    world.add_node()
    world.kubelet.scripts["shrink"] = UNTIL_TOLD
    world.start_operator()
    world.create("shrink", resources={"gpus": 1})
    world.wait("shrink", "Running")
    page = green.text("explain", "shrink")
    assert f"shrink in {world.namespace} Running" in page
    assert "Runs now: no later time before the deadline is cleaner. It started first at" in page
    assert f"kubectl logs -n {world.namespace} -l greentraining.io/job=shrink" in page
    assert "runs" in page
    assert "checkpoints/" in page

    wait_for(lambda: world.kubelet.running("shrink"), what="its pod runs")
    world.kubelet.finish("shrink")
    status = world.wait("shrink", "Succeeded")
    row = green("list").splitlines()[1]
    assert "Succeeded" in row
    assert " met " in row
    assert "ago" in row

    page = green.text("explain", "shrink")
    assert "The task is complete. It ended at" in page
    assert "before its deadline." in page
    assert f"Measured {status['energy']['measuredJoules']} J device counters" in page
    assert f"Estimated {status['energy']['estimatedJoules']} J CPU time" in page
    assert "all attempts, gross" in page
    assert "the useful work without pauses, from the earliest feasible start" in page
    assert "counterfactual less actual" in page
    assert f"Location-based, zone {world.zone}, average, life-cycle intensity." in page
    folder, report = status["reportPath"].rsplit("/", 1)
    assert f"On the claim models, in {folder}/: output/ holds the models" in page
    assert f"{report} all figures (SHA-256 {status['reportSha256'][:12]}…)" in page
    assert "accuracy 0.9" in page
    assert "1 attempt," in page
    assert f"Run 1 is the Job {status['run']['name']}." in page
    assert not any(word in page for word in FORBIDDEN_WORDS)

    assert "It has ended; this was its last plan." in green.text("plan", "shrink")


def test_what_is_wrong_and_how_it_is_mended(world: World, green: Green) -> None:
    world.add_node()
    world.kubelet.scripts |= {
        "blocked": Script(pending=Pending.UNSCHEDULABLE),
        "wrong": Script(codes=(65,), fails_after=0.2),
    }
    world.start_operator()
    world.create("blocked")
    world.create("wrong")
    world.create("homeless", storage={"claimName": "nowhere"}, suspend=True)
    world.create("tight", {**SOON, "completeWithin": "61m"}, suspend=True)
    world.wait_condition("blocked", "Running", "False", "Unschedulable")
    world.wait_condition("homeless", "ClaimBound", "False")
    world.wait_condition("tight", "DeadlineAtRisk", "True")
    world.wait("wrong", "Failed")

    rows = {line.split()[0]: line for line in green("list", columns=120).splitlines()}
    assert "no node fits" in rows["blocked"]
    assert "claim not found" in rows["homeless"]
    assert "paused by a person" in rows["tight"]
    assert ", at risk" in rows["tight"]
    assert "task cannot work" in rows["wrong"]
    assert list(rows)[-1] == "wrong", "what has ended comes last"

    page = green.text("explain", "blocked")
    assert "It is to run by its plan, but cannot: no node fits." in page
    assert "1 Insufficient cpu." in page
    assert "To mend it: see that a node has the resources" in page
    page = green.text("explain", "homeless")
    assert "Paused by spec.suspend; set it to false to go on." in page
    assert "ClaimNotFound: spec.storage.claimName: nowhere" in page
    page = green.text("explain", "tight")
    assert "DoesNotFit:" in page
    assert "allow more time in spec.schedule" in page
    assert "Whatever the grid is like" not in page
    page = green.text("explain", "wrong")
    assert "without success (InvalidTask)" in page
    assert "To mend it: correct what the message names and create a new job." in page
    assert "interrupted or failed" in page


# -- where no operator looks


def test_a_job_that_nobody_looks_at(world: World, green: Green) -> None:
    world.create("lonely")
    assert "never reconciled" in green("list")
    page = green.text("explain", "lonely")
    assert "NeverReconciled: It was created" in page
    assert "see that the operator runs" in page
    assert "There is no plan yet" in green.text("plan", "lonely")


def test_an_operator_that_is_silent_is_noticed(world: World, green: Green) -> None:
    wait_for_clean_power(world)
    operator = world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "30m", "completeWithin": "6h"})
    status = world.wait("shrink", "Planned")
    operator.kill()
    late = now() - timedelta(minutes=20)
    patch(world, "shrink", status | {"plannedStart": format_time(late)})
    world.change("shrink", {"schedule": {"completeWithin": "7h"}})
    page = green.text("explain", "shrink")
    assert "ChangeNotSeen: The last change of the spec (generation 2)" in page
    assert "StartOverdue: It was to start 20m ago and has not." in page
    by_hand = re.search(r"; (kubectl get jobs .*?}}') starts it by hand", page)
    assert by_hand is not None, page
    assert "not in it yet" in green.text("plan", "shrink")

    # What it says to do does start the job.
    world.add_node()
    world.kubelet.scripts["shrink"] = UNTIL_TOLD
    green.shell(by_hand[1])
    world.kubelet.wait_running("shrink")


# -- statuses written by hand


MARGINAL: Object = {
    "observedGeneration": 1,
    "state": "Succeeded",
    "message": "the task is complete",
    "startTime": "2026-03-01T08:00:00Z",
    "completionTime": "2026-03-01T12:30:00Z",
    "deadline": "2026-03-01T12:00:00Z",
    "energy": {"joules": 7200, "measuredJoules": 3600, "attributedJoules": 3600},
    "emissions": {
        "signal": "MarginalDirect",
        "zone": "gb",
        "micrograms": 1_000_000,
        "counterfactualMicrograms": 1_500_000,
        "differenceMicrograms": 500_000,
    },
    "account": {
        "attempts": 1,
        "kept": {"microseconds": 3_600_000_000, "nanograms": 1_500_000_000},
        "amounts": [
            {
                "zone": "gb",
                "signal": "MarginalDirect",
                "provenance": provenance,
                "millijoules": 3_600_000,
                "nanograms": 500_000_000,
            }
            for provenance in ("Measured", "Attributed")
        ],
        "latest": [
            {
                "uid": "a",
                "zone": "gb",
                "startTime": "2026-03-01T08:00:00.000000Z",
                "endTime": "2026-03-01T12:30:00.000000Z",
                "lastTime": "2026-03-01T12:30:00.000000Z",
                "succeeded": True,
                "toldEnd": True,
            }
        ],
    },
    "conditions": [
        {
            "type": "Succeeded",
            "status": "True",
            "reason": "Completed",
            "lastTransitionTime": "2026-03-01T12:30:00Z",
        },
        {
            "type": "ZoneAsPlanned",
            "status": "False",
            "reason": "OtherZone",
            "message": "planned in zone fr, its pod ran in zone gb",
            "lastTransitionTime": "2026-03-01T08:00:00Z",
        },
    ],
}


def patch(world: World, name: str, status: Object) -> None:
    world.admin.patch_status(GREEN_JOBS, name, status, world.namespace)


def test_only_a_marginal_signal_lets_emissions_be_called_avoided(
    world: World, green: Green
) -> None:
    world.create("late")
    patch(world, "late", MARGINAL)
    page = green.text("explain", "late")
    assert "Attributed 1 Wh a share of the node's counters" in page
    assert "Actual 1 g all attempts, gross" in page
    assert "Difference +500 mg (33 %) avoided" in page
    assert "marginal, direct intensity" in page
    assert "30m after its deadline." in page
    assert "OtherZone: Planned in zone fr, its pod ran in zone gb." in page
    assert "labels of its spec.nodeSelector" in page
    row = green("list").splitlines()[1]
    assert "missed by 30m" in row
    assert "+500 mg (33 %)" in row


def test_what_a_pod_wrote_does_not_steer_the_terminal(world: World, green: Green) -> None:
    world.create("sly")
    patch(world, "sly", MARGINAL | {"message": "\x1b[2J\x07done [bold]at last[/bold]"})
    page = green("explain", "sly")
    assert "\x1b" not in page
    assert "[2J done [bold]at last[/bold]." in page


def test_energy_of_hours_without_intensity_is_set_apart(world: World, green: Green) -> None:
    world.create("odd")
    account = json.loads(json.dumps(MARGINAL["account"]))
    account["amounts"][1] |= {"nanograms": 0, "unaccountedMillijoules": 3_600_000}
    patch(world, "odd", MARGINAL | {"account": account})
    page = green.text("explain", "odd")
    assert "Not counted 1 Wh hours without intensity" in page
    assert "no difference is told" in page
    assert "Difference +" not in page


# -- the list


def test_lists_fit_the_terminal(world: World, green: Green) -> None:
    for name in ("a", "a-job-with-quite-a-long-name-in-it"):
        world.create(name)
        patch(world, name, MARGINAL)
    for columns in (80, 100, 140):
        lines = green("list", columns=columns).splitlines()
        assert all(len(line.rstrip()) <= columns for line in lines), columns
        assert len(lines) == (4 if "Not enough room" in lines[-1] else 3)
    assert "Not enough room for: Energy, Zone." in green("list", columns=90)
    assert "Not enough room" not in green("list", columns=140)


def test_lists_for_programs_and_of_all_namespaces(world: World, green: Green) -> None:
    assert green("list") == f"There are no jobs in namespace {world.namespace}.\n"
    world.create("shrink")
    patch(world, "shrink", MARGINAL)
    (item,) = json.loads(green("list", "-o", "json"))["items"]
    assert item["metadata"]["namespace"] == world.namespace
    assert item["metadata"]["name"] == "shrink"
    assert datetime.fromisoformat(item["metadata"]["creationTimestamp"]).tzinfo is not None
    assert item["status"] == world.status("shrink")
    rows = [line.split()[:2] for line in green.run("list", "-A").stdout.splitlines()]
    assert rows[0] == ["Namespace", "Name"]
    assert [world.namespace, "shrink"] in rows


def test_it_is_a_plugin_and_takes_the_namespace_of_the_context(
    world: World, green: Green, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.create("shrink")
    config = json.loads(world.plane.admin_kubeconfig.read_text())
    context = config["contexts"][0]["context"]
    config["contexts"].append(
        {"name": "team", "context": {**context, "namespace": world.namespace}}
    )
    config["current-context"] = "team"
    file = world.folder / "kubeconfig"
    file.write_text(json.dumps(config))
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:{os.environ['PATH']}")
    assert "never reconciled" in world.plane.kubectl("green", "list", kubeconfig=file)
    green.kubeconfig = None
    listed = green.run("list", "--kubeconfig", str(file), "--context", "team")
    assert "never reconciled" in listed.stdout


# -- what may go wrong


def test_mistakes_and_lacking_rights_are_one_line(world: World, green: Green) -> None:
    namespace, plane = world.namespace, world.plane
    world.create("shrink-vision")
    assert green.error("explain", "shrnk-vision", "-n", namespace) == (
        f"error: there is no job 'shrnk-vision' in namespace {namespace}; "
        "did you mean shrink-vision?"
    )
    line = green.error("plan", "shrnk-vision", "-n", namespace)
    assert line.startswith("error: shrnk-vision: there is no such file; taken for a job")
    assert line.endswith("did you mean shrink-vision?")
    assert "is no name" in green.error("explain", "a/b", "-n", namespace)
    assert "has no context 'other'; it has tests" in green.error("list", "--context", "other")

    green.kubeconfig = plane.kubeconfig_for("nobody", namespace)
    line = green.error("list", "-n", namespace)
    assert "you lack the right" in line
    assert 'cannot list resource "greentrainingjobs"' in line
    green.kubeconfig = plane.kubeconfig("admin", ("system:masters",), server="https://127.0.0.1:9")
    assert "127.0.0.1:9 was refused" in green.error("list", "-n", namespace)
    # A server that serves no such kind.
    green.kubeconfig = plane.kubeconfig("admin", ("system:masters",), plane.server + "/other")
    assert "has no GreenTrainingJobs: install" in green.error("list", "-n", namespace)
    assert "has no GreenTrainingJobs: install" in green.error("explain", "x", "-n", namespace)
    green.kubeconfig = None
    assert "there is no kubeconfig" in green.error("list")
    assert "there is no kubeconfig" in green.error("plan", "shrink-vision")


def test_who_may_not_read_events_reads_the_rest(world: World, green: Green) -> None:
    world.create("shrink")
    rule = {
        "apiGroups": ["greentraining.io"],
        "resources": ["greentrainingjobs"],
        "verbs": ["get"],
    }
    green.kubeconfig = world.plane.kubeconfig_for("reader", world.namespace, [rule])
    page = green.text("explain", "shrink")
    assert "NeverReconciled" in page
    assert "Events They cannot be read: you lack the right" in page
    line = green.error("explain", "shrnk", "-n", world.namespace)
    assert line == f"error: there is no job 'shrnk' in namespace {world.namespace}"


def test_a_name_takes_no_options_of_files(world: World, green: Green) -> None:
    done = green.run("plan", "shrink", "--speed", "10", "-n", world.namespace)
    assert done.returncode == 65
    assert "--speed go with manifests" in done.stderr
    done = green.run("plan", "shrink.yaml", "-n", world.namespace)
    assert done.returncode == 65
    assert "shrink.yaml: cannot be read" in done.stderr


def test_help_does_not_load_the_operator() -> None:
    heavy = "{'kubernetes', 'kopf', 'aiohttp', 'matplotlib', 'torch'}"
    code = f"import sys, green_operator.cli; sys.exit(str({heavy} & sys.modules.keys() or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
