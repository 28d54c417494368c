"""Zones with live sources, asked while a command works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from green_api.errors import UserError

from green_operator.cli.session import PRIVATE, Input

if TYPE_CHECKING:
    from green_api.zone import GridZone

    from green_operator.feeds.providers import Endpoints
    from green_operator.local.live import LiveZone

_FIRST_ANSWER_SECONDS: Final = 15.0
_ENDPOINT_VARIABLES: Final = {
    "uk_neso": "GREENCTL_UK_NESO_URL",
    "electricity_maps": "GREENCTL_ELECTRICITY_MAPS_URL",
}


@contextmanager
def watched(
    given: Input,
    environment: Mapping[str, str],
    output: Path | None,
    say: Callable[[str], None],
) -> Iterator[Input]:
    """The input while the live sources of the zones in use are asked in the background.

    Args:
        given: what the command line gave.
        environment: may say that a provider is elsewhere (see ``endpoints``).
        output: the folder that keeps what was observed; None keeps nothing.
        say: shows a person what is waited for.

    Raises:
        UserError: a provider's address in the environment is none.

    """
    zones = [zone for zone in given.zones_in_use if zone.spec.has_live_source]
    if not zones:
        yield given
        return
    with ExitStack() as stack:
        live = {
            zone.metadata.name: stack.enter_context(_asked(zone, given, environment, output, say))
            for zone in zones
        }
        if not all(one.wait(_FIRST_ANSWER_SECONDS) for one in live.values()):
            say("There is no answer yet; it goes on without, and plans anew with the first one.")
        yield replace(given, zones=replace(given.zones, live=live))


@contextmanager
def _asked(
    zone: GridZone,
    given: Input,
    environment: Mapping[str, str],
    output: Path | None,
    say: Callable[[str], None],
) -> Iterator[LiveZone]:
    """One zone while its sources are asked."""
    # Imported here: half a second that only a live source needs.
    from green_operator.local.live import LiveZone, LocalReferences

    name = zone.metadata.name
    references = LocalReferences(given.trace_files.get(name), given.secrets)
    history = None if output is None else output / PRIVATE / f"zone-{name}.history.gz"
    with LiveZone(zone, references, endpoints(environment), history) as live:
        if live.problem:
            say(f"Zone {name}: {live.problem}.")
        say(f"Asking the sources of zone {name}.")
        yield live


def endpoints(environment: Mapping[str, str]) -> Endpoints:
    """Where the providers are, as the environment says: a proxy of one's own, or a test's server.

    Raises:
        UserError: an address is none of HTTP.

    """
    from green_operator.feeds.providers import Endpoints

    addresses = {}
    for field_name, variable in _ENDPOINT_VARIABLES.items():
        address = environment.get(variable)
        if not address:
            continue
        if not address.startswith(("https://", "http://")):
            msg = f"{variable}: {address!r} is no address; write https://HOST/PATH"
            raise UserError(msg)
        addresses[field_name] = address
    return Endpoints(**addresses)
