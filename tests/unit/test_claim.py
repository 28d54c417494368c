"""What is read of a claim: the helper pod as it is made, and what its stream may not do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from green_api.config import OperatorConfig
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.cli import claim_reader
from green_operator.cli.claim_files import (
    BrokenStreamError,
    ClaimFile,
    Content,
    UnsafeFileError,
    claim_files,
    save,
)
from green_operator.cli.claim_pod import reader_pod
from green_operator.cli.kubectl import stored_job
from green_operator.cli.logs import printable_lines
from green_operator.objects.names import ROLE_LABEL
from green_operator.objects.run import run_job
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import manifest

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "reader.yaml"
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_the_helper_pod_as_it_is_made() -> None:
    body = manifest(
        resources={"gpus": 2, "cpu": 4, "memory": "16Gi"},
        pod={"image": "registry.test/mine:2", "imagePullSecrets": ["mine"]},
    )
    body["metadata"] = {
        "name": "shrink", "namespace": "team-a", "uid": UID,
        "creationTimestamp": "2026-06-01T00:00:00Z", "generation": 1,
    }  # fmt: skip
    defaults = {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"a": "b"}}
    config = OperatorConfig.parse({"jobs": defaults}, "test")
    run = run_job(GreenTrainingJob.parse(body, "test"), 1, config, DEFAULT_POWER)
    pod = reader_pod("shrink-read-0a1b2c", stored_job(body), run)
    text = yaml.safe_dump(pod, sort_keys=False, width=100)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "UPDATE_GOLDEN=1 takes the new one"


def test_a_sites_own_claim_is_read_beside_its_pod() -> None:
    task = {
        "model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits"}, "rounds": 2, "minSites": 1,
        "sites": [{"name": "north", "claimName": "data-north"}],
    }  # fmt: skip
    body = manifest(task={"federate": task})
    body["metadata"] = {
        "name": "ward", "namespace": "team-a", "uid": UID,
        "creationTimestamp": "2026-06-01T00:00:00Z", "generation": 1,
    }  # fmt: skip
    job = GreenTrainingJob.parse(body, "test")
    run = run_job(job, 1, OperatorConfig(), DEFAULT_POWER, "server", "token")
    seen = {}
    for role in ("", "server", "north"):
        spec = reader_pod("read", stored_job(body), run, role)["spec"]
        (volume,) = spec["volumes"]
        (term,) = spec["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        labels = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
        seen[role] = (volume["persistentVolumeClaim"]["claimName"], labels.get(ROLE_LABEL))
    assert seen == {
        "": ("models", None), "server": ("models", "server"), "north": ("data-north", "north"),
    }  # fmt: skip


# -- the stream


def _read(folder: Path, *parts: str) -> bytes:
    """What the program of the helper pod prints, run as it is there."""
    source = Path(claim_reader.__file__).read_text()
    command = [sys.executable, "-I", "-c", source, str(folder), *parts]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _write(path: Path, content: bytes, modified: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (modified, modified))


def test_files_come_as_they_are_the_newest_last(tmp_path: Path) -> None:
    claim, here = tmp_path / "claim", tmp_path / "here"
    _write(claim / "logs" / "b.log", b"first\n", 100)
    _write(claim / "logs" / "a.log", b"second\n", 200)
    _write(claim / "output" / "deep" / "model", bytes(range(256)) * 10_000, 150)
    _write(claim / "report.json", b"", 300)
    _write(claim / "checkpoints" / "large", b"not asked for", 50)
    found = []
    for file in claim_files(io.BytesIO(_read(claim, "output", "logs", "report.json", "none"))):
        save(file, here, file.size)
        found.append(str(file.path))
    assert found == ["logs/b.log", "output/deep/model", "logs/a.log", "report.json"]
    for name in found:
        assert (here / name).read_bytes() == (claim / name).read_bytes()


def test_links_and_pipes_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the machine")
    claim = tmp_path / "claim"
    _write(claim / "output" / "model", b"model", 100)
    (claim / "output" / "link").symlink_to(tmp_path / "secret")
    (claim / "output" / "folder").symlink_to(tmp_path)
    (claim / "report.json").symlink_to(tmp_path / "secret")
    os.mkfifo(claim / "output" / "pipe")
    stream = io.BytesIO(_read(claim, "output", "report.json"))
    assert [str(file.path) for file in claim_files(stream)] == ["output/model"]


def _stream(*files: tuple[Any, bytes], count: int | None = None) -> io.BytesIO:
    parts = [json.dumps([n, len(c), 0]).encode() + b"\n" + c for n, c in files]
    return io.BytesIO(b"".join(parts) + str(len(files) if count is None else count).encode())


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "a/../../x", "..", ".", "a\nb", "\x1b[2J", "a\\..\\b"],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UnsafeFileError, match="is no name of a file"):
        list(claim_files(_stream((name, b"x"))))


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=5)), max_size=4))
def test_whatever_comes_nothing_is_written_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]]
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    (outer / "inner").mkdir()
    try:
        for file in claim_files(_stream(*files)):
            save(file, outer / "inner", 100)
    except (BrokenStreamError, UnsafeFileError):
        pass
    assert [path.name for path in outer.iterdir()] == ["inner"]


@given(st.binary(max_size=60))
def test_what_is_no_stream_of_the_reader_is_told(data: bytes) -> None:
    try:
        list(claim_files(io.BytesIO(data)))
    except (BrokenStreamError, UnsafeFileError):
        return
    assert data.strip() == b"0", "only this is a stream, of no files"


def test_a_stream_that_breaks_off_is_told() -> None:
    whole = _stream(("a", b"abc"), ("b", b"de")).getvalue()
    for length in range(len(whole)):
        with pytest.raises(BrokenStreamError):
            list(claim_files(io.BytesIO(whole[:length])))
    with pytest.raises(BrokenStreamError, match="1 of 2 files came"):
        list(claim_files(_stream(("a", b"abc"), count=2)))


def test_a_file_larger_than_there_is_room_is_refused(tmp_path: Path) -> None:
    (file,) = [_first(_stream(("output/model", b"12345")))]
    with pytest.raises(UnsafeFileError, match=r"output/model: has 5 bytes, .* room for 4"):
        save(file, tmp_path, 4)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_comes_twice_is_refused(tmp_path: Path) -> None:
    files = claim_files(_stream(("a", b"1"), ("a", b"2")))
    save(next(files), tmp_path, 1)
    with pytest.raises(UnsafeFileError, match="comes twice"):
        save(next(files), tmp_path, 1)
    assert (tmp_path / "a").read_bytes() == b"1"


def _first(stream: io.BytesIO) -> ClaimFile:
    return next(claim_files(stream))


# -- a log in a terminal


def test_a_log_does_not_steer_the_terminal() -> None:
    raw = "\x1b[31mred\x1b[0m\n\x1b]0;title\x07x\n10 %\r50 %\r100 %\r\né\ttab\x08\x9b1m\nlast"
    data = raw.encode()
    lines = list(printable_lines(Content(io.BytesIO(data), len(data))))
    assert lines == ["red\n", "x\n", "100 %\n", "é\ttab1m\n", "last\n"]


def test_a_file_says_when_it_was_written(tmp_path: Path) -> None:
    _write(tmp_path / "logs" / "a.log", b"", 86_400)
    assert _first(io.BytesIO(_read(tmp_path, "logs"))).modified == datetime(1970, 1, 2, tzinfo=UTC)
