"""``greenctl`` with live sources: a provider on loopback, as the administrator's variable says."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from green_api.base import Signal
from green_api.status import JobStatus, State
from green_operator.sources.history import read_history

from tests.e2e.harness import GREENCTL, ROOT, TRACE_ZONE, Greenctl, status_of, wait_for
from tests.e2e.test_greenctl import NOW, train, write
from tests.sources.provider import (
    HOUR,
    Provider,
    Reply,
    maps_latest,
    maps_series,
    neso,
    serving,
)
from tests.unit.factories import manifest

KEY = "s3cr3t-key"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as running:
        yield running


def zone(*sources: object) -> dict[str, object]:
    return TRACE_ZONE | {"metadata": {"name": "here"}, "spec": {"sources": list(sources)}}


NESO = zone({"ukNeso": {}})
MAPS = zone({"electricityMaps": {"zone": "DE", "secretKeyRef": {"name": "maps", "key": "token"}}})
STATIC = {"static": {"gramsPerKilowattHour": 360, "signal": "AverageDirect"}}


def this_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def plan(arguments: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(GREENCTL), "plan", *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_plan_follows_the_forecast(tmp_path: Path, provider: Provider) -> None:
    start = this_hour()
    provider.script("pt24h", Reply(neso(start - 24 * HOUR, 48)))
    provider.script("fw48h", Reply(neso(start, 96, lambda i: 50 if 12 <= i < 16 else 250)))
    job = write(tmp_path, manifest(), NESO)
    finished = plan([job], GREENCTL_UK_NESO_URL=provider.url)
    assert finished.returncode == 0, finished.stderr
    assert "Asking the sources of zone here." in finished.stdout
    assert "As planned   50 gCO2e/kWh" in finished.stdout
    assert "Run at once  250 gCO2e/kWh" in finished.stdout
    assert "Intensity: ukNeso" in [line.strip() for line in finished.stdout.splitlines()]


def test_a_run_is_accounted_with_electricity_maps_and_its_key_stays_secret(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script("history", Reply(maps_series("history", this_hour() - 24 * HOUR, 24)))
    provider.script("latest", Reply(maps_latest(this_hour(), 360)))
    provider.script(
        "forecast", Reply(maps_series("forecast", this_hour() + HOUR, 24, lambda _: 360))
    )
    text = "import os, pathlib; pathlib.Path(os.environ['GREEN_OUTPUT_DIR'], 'e').write_text(str(dict(os.environ)))"
    run = Greenctl(
        [
            write(tmp_path, train(tmp_path, text, schedule=NOW), MAPS),
            "--secret",
            "maps/token=MAPS_KEY",
            "--json",
        ],
        tmp_path / "out",
        {"MAPS_KEY": KEY, "GREENCTL_ELECTRICITY_MAPS_URL": provider.url},
    )
    finished = run.run()
    assert finished.returncode == 0, finished.stderr
    status = JobStatus.model_validate(status_of(finished))
    assert status.emissions is not None
    assert status.emissions.signal is Signal.AVERAGE_LIFECYCLE
    assert status.emissions.unaccounted_joules == 0
    assert {q.headers["auth-token"] for q in provider.questions} == {KEY}
    assert KEY not in finished.stdout + finished.stderr
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert tmp_path / "out/shrink/output/e" in written
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    kept, problem = read_history((tmp_path / "out/.greenctl/zone-here.history.gz").read_bytes())
    # The hour may have ended meanwhile.
    assert len(kept.of(Signal.AVERAGE_LIFECYCLE)) in {24, 25}
    assert problem == ""


def test_what_was_observed_before_a_pause_is_still_known(
    tmp_path: Path, provider: Provider
) -> None:
    """The provider gives 24 hours; a run that goes on later needs those before."""
    long_ago = this_hour() - 30 * HOUR
    provider.script("pt24h", Reply(neso(long_ago, 2)))
    provider.script("fw48h", Reply(neso(this_hour(), 96)))
    job = write(tmp_path, train(tmp_path, "pass", schedule=NOW), NESO)
    env = {"GREENCTL_UK_NESO_URL": provider.url}
    assert Greenctl([job], tmp_path / "out", env).run().returncode == 0
    provider.script("pt24h", Reply(neso(this_hour() - HOUR, 2)))
    job = write(
        tmp_path, train(tmp_path, "pass", schedule=NOW) | {"metadata": {"name": "next"}}, NESO
    )
    assert Greenctl([job], tmp_path / "out", env).run().returncode == 0
    kept, _ = read_history((tmp_path / "out/.greenctl/zone-here.history.gz").read_bytes())
    assert [slot.start for slot in kept.of(Signal.AVERAGE_DIRECT)][::2] == [
        long_ago,
        this_hour() - HOUR,
    ]


def test_a_provider_that_is_away_holds_nothing_up(tmp_path: Path, unused_port: int) -> None:
    env = {"GREENCTL_UK_NESO_URL": f"http://127.0.0.1:{unused_port}"}
    job = write(tmp_path, train(tmp_path, "pass", storage={"claimName": "c"}), NESO)
    finished = Greenctl([job, "--json"], tmp_path / "out", env).run()
    assert finished.returncode == 0, finished.stderr
    messages = [c["message"] for c in status_of(finished)["conditions"]]
    assert "no source is usable: ukNeso: no connection (ClientConnectorError)" in messages
    assert "stamina" not in finished.stderr
    with_fallback = write(tmp_path, manifest(), zone({"ukNeso": {}}, STATIC))
    planned = plan([with_fallback], **env)
    assert (
        "Intensity: static 360 g/kWh; passed over: ukNeso: no connection (ClientConnectorError)"
        in " ".join(planned.stdout.split())
    )


def test_a_late_answer_makes_a_new_plan(tmp_path: Path, provider: Provider) -> None:
    """Twice no answer in time: the job starts without, and waits once there is a forecast."""
    start = this_hour()
    good = Reply(neso(start, 96, lambda i: 50 if 12 <= i < 20 else 250))
    provider.script("fw48h", Reply({}, delay=60), Reply({}, delay=60), good)
    provider.script("pt24h", Reply({}, delay=60), Reply({}, delay=60), Reply({}))
    work = train(tmp_path, "import time; time.sleep(600)")
    run = Greenctl(
        [write(tmp_path, work, NESO)], tmp_path / "out", {"GREENCTL_UK_NESO_URL": provider.url}
    )
    process = run.start()
    wait_for(run.active)

    def suspended() -> bool:
        status = run.job("shrink").status
        return status is not None and status.state is State.SUSPENDED

    wait_for(suspended)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "There is no answer yet; it goes on without" in out


@pytest.mark.parametrize(
    ("document", "options", "env", "says"),
    [
        (
            zone(*TRACE_ZONE["spec"]["sources"], {"ukNeso": {}}),
            ("--trace", "here=examples/sunny-day.csv", "--speed", "60"),
            {},
            "--speed: replays a trace, but zone here has a live source",
        ),
        (MAPS, ("--secret", KEY), {}, "--secret: write it as NAME/KEY=VARIABLE"),
        (MAPS, ("--secret", f"maps/token={KEY}"), {}, "the environment variable named for it is not set"),
        (MAPS, ("--secret", "maps/other=HOME"), {}, "no GridZone refers to it (maps/token is referred to)"),
        (NESO, (), {"GREENCTL_UK_NESO_URL": "ftp://x"}, "GREENCTL_UK_NESO_URL: 'ftp://x' is no address"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_said(
    tmp_path: Path,
    document: dict[str, object],
    options: tuple[str, ...],
    env: dict[str, str],
    says: str,
) -> None:
    job = write(tmp_path, manifest(), document)
    finished = Greenctl([job, *options], tmp_path / "out", env).run()
    assert finished.returncode == 65
    assert says in finished.stderr
    assert KEY not in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_key_that_was_not_given_is_said(tmp_path: Path, provider: Provider) -> None:
    job = write(tmp_path, manifest(), MAPS)
    finished = plan([job], GREENCTL_ELECTRICITY_MAPS_URL=provider.url)
    assert finished.returncode == 0
    assert "without --secret maps/token=VARIABLE it tells nothing" in " ".join(
        finished.stdout.split()
    )
    assert provider.questions == []
