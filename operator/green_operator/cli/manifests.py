"""Reading manifests and traces from files: the edge where a person's mistakes are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from green_api.errors import InvalidManifestError, UserError
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone, Repeat

from green_operator.sources.trace import Trace, parse_trace


@dataclass(frozen=True, slots=True)
class Manifests:
    """The documents of all files."""

    jobs: tuple[tuple[GreenTrainingJob, Path], ...]
    """With the folder that each came from."""
    zones: tuple[GridZone, ...]

    def machine_zone(self) -> GridZone | None:
        """The zone that this machine draws from: the default one, or the only one.

        Raises:
            UserError: there are several and not just one is the default.

        """
        if len(self.zones) <= 1:
            return self.zones[0] if self.zones else None
        defaults = [zone for zone in self.zones if zone.spec.default]
        if len(defaults) == 1:
            return defaults[0]
        names = ", ".join(zone.metadata.name for zone in self.zones)
        msg = (
            f"GridZone: {len(defaults)} of {names} have spec.default: true; mark just one, the "
            "zone of this machine"
        )
        raise UserError(msg)


def load_manifests(files: Sequence[Path]) -> Manifests:
    """Read and check all documents.

    Raises:
        UserError: a file cannot be read or a document does not fit.

    """
    jobs: list[tuple[GreenTrainingJob, Path]] = []
    zones: list[GridZone] = []
    for file in files:
        for document, where in _documents(file):
            kind = document.get("kind")
            if kind == "GreenTrainingJob":
                jobs.append((GreenTrainingJob.parse(document, where), file.resolve().parent))
            elif kind == "GridZone":
                zones.append(GridZone.parse(document, where))
            else:
                problem = f"kind: {kind!r}: must be GreenTrainingJob or GridZone"
                raise InvalidManifestError(where, [problem])
    if not jobs:
        msg = f"{', '.join(map(str, files))}: there is no GreenTrainingJob in it"
        raise UserError(msg)
    _refuse_doubles("GreenTrainingJob", [job.metadata.name for job, _ in jobs])
    _refuse_doubles("GridZone", [zone.metadata.name for zone in zones])
    manifests = Manifests(tuple(jobs), tuple(zones))
    _check_placement(manifests)
    return manifests


def load_traces(options: Iterable[str], zones: Iterable[GridZone]) -> dict[str, Trace]:
    """Read the traces of ``--trace ZONE=FILE``.

    Raises:
        UserError: an option, a file or a trace is wrong.

    """
    sources = {(z.metadata.name, s.trace) for z in zones for s in z.spec.sources if s.trace}
    with_trace = {name for name, _ in sources}
    repeating = {name for name, source in sources if source.repeat is Repeat.DAILY}
    traces = {}
    for option in options:
        name, separator, file = option.partition("=")
        if not separator:
            msg = f"--trace: {option!r}: write it as ZONE=FILE.csv"
            raise UserError(msg)
        if name not in with_trace:
            known = ", ".join(sorted(with_trace)) or "none here"
            msg = f"--trace: {name!r}: no GridZone of that name has a trace source ({known} has)"
            raise UserError(msg)
        trace = parse_trace(_read(Path(file)), file)
        if name in repeating and not trace.holds_a_day:
            msg = (
                f"{file}: holds {trace.end - trace.start}, but the zone says repeat: Daily; give a "
                "whole day in steps that divide it, or leave repeat out"
            )
            raise UserError(msg)
        traces[name] = trace
    return traces


def _documents(file: Path) -> list[tuple[dict[str, Any], str]]:
    try:
        documents = list(yaml.safe_load_all(_read(file)))
    except yaml.YAMLError as error:
        msg = f"{file}: is not YAML: {' '.join(str(error).split())}"
        raise UserError(msg) from None
    found = []
    for index, document in enumerate(documents, start=1):
        where = str(file) if len(documents) == 1 else f"{file}, document {index}"
        if document is None:
            continue
        if not isinstance(document, dict):
            msg = f"{where}: is not an object with apiVersion, kind, metadata and spec"
            raise UserError(msg)
        found.append((document, where))
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"{file}: cannot be read: {reason}"
        raise UserError(msg) from None


def _refuse_doubles(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            msg = f"{kind}: {name!r} is given {names.count(name)} times; names must differ"
            raise UserError(msg)


def _check_placement(manifests: Manifests) -> None:
    """A job that may not run in this machine's zone cannot run here."""
    zone = manifests.machine_zone()
    for job, _ in manifests.jobs:
        allowed = job.spec.placement.zones if job.spec.placement else None
        if allowed is not None and (zone is None or zone.metadata.name not in allowed):
            here = f"zone {zone.metadata.name}" if zone else "no zone"
            msg = (
                f"{job.metadata.name}: spec.placement.zones: {', '.join(allowed)}: this machine is "
                f"in {here}; allow it, or mark another GridZone as default"
            )
            raise UserError(msg)
