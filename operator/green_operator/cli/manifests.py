"""Reading manifests and traces from files: the edge where a person's mistakes are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from green_api.errors import InvalidManifestError, UserError
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone, Repeat

from green_operator.sources.trace import Trace, read_trace


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


def trace_files(options: Iterable[str], zones: Iterable[GridZone]) -> dict[str, Path]:
    """The files of ``--trace ZONE=FILE``, by zone.

    Raises:
        UserError: an option is wrong.

    """
    with_trace = {z.metadata.name for z in zones if any(s.trace for s in z.spec.sources)}
    files = {}
    for option in options:
        name, separator, file = option.partition("=")
        if not separator:
            msg = f"--trace: {option!r}: write it as ZONE=FILE.csv"
            raise UserError(msg)
        if name not in with_trace:
            known = ", ".join(sorted(with_trace)) or "none here"
            msg = f"--trace: {name!r}: no GridZone of that name has a trace source ({known} has)"
            raise UserError(msg)
        files[name] = Path(file)
    return files


def load_traces(files: Mapping[str, Path], zones: Iterable[GridZone]) -> dict[str, Trace]:
    """Read the traces of the zones.

    Raises:
        UserError: a file or a trace is wrong.

    """
    sources = [(z.metadata.name, s.trace) for z in zones for s in z.spec.sources if s.trace]
    repeating = {name for name, source in sources if source.repeat is Repeat.DAILY}
    traces = {}
    for name, file in files.items():
        trace = read_trace(_read_bytes(file), str(file))
        if name in repeating and not trace.holds_a_day:
            msg = (
                f"{file}: holds {trace.end - trace.start}, but the zone says repeat: Daily; give a "
                "whole day in steps that divide it, or leave repeat out"
            )
            raise UserError(msg)
        traces[name] = trace
    return traces


def load_secrets(
    options: Iterable[str], zones: Iterable[GridZone], environment: MutableMapping[str, str]
) -> dict[tuple[str, str], str]:
    """The keys of ``--secret NAME/KEY=VARIABLE``, by name and key of the Secret.

    They are taken out of the environment, which the jobs inherit.

    Raises:
        UserError: an option is wrong, or the variable is not set.

    """
    references = [
        s.electricity_maps.secret_key_ref
        for z in zones
        for s in z.spec.sources
        if s.electricity_maps
    ]
    known = {f"{reference.name}/{reference.key}" for reference in references}
    secrets = {}
    for option in options:
        reference, separator, variable = option.partition("=")
        name, slash, key = reference.partition("/")
        if not separator or not slash:
            # What was given may be the secret itself, so it is not repeated.
            msg = (
                "--secret: write it as NAME/KEY=VARIABLE, with the name of an environment variable"
            )
            raise UserError(msg)
        if reference not in known:
            names = ", ".join(sorted(known)) or "none here"
            msg = f"--secret: {reference!r}: no GridZone refers to it ({names} is referred to)"
            raise UserError(msg)
        value = environment.pop(variable, "")
        if not value:
            msg = f"--secret: {reference!r}: the environment variable named for it is not set"
            raise UserError(msg)
        secrets[name, key] = value
    return secrets


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
        return _read_bytes(file).decode()
    except UnicodeDecodeError:
        msg = f"{file}: cannot be read: it is not UTF-8 text"
        raise UserError(msg) from None


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        msg = f"{file}: cannot be read: {error.strerror}"
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
