"""The keys of a federated run: made here, put into Secrets, and forgotten."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from green_operator.cluster.api import SECRETS, SERVICES, Api, ApiError, NameTakenError, Object
from green_operator.cluster.seen import Seen
from green_operator.objects.federation import run_secrets, run_service, server_hosts

_TOKEN_BYTES: Final = 5


@dataclass(slots=True)
class _Set:
    token: str
    left: list[Object] = field(repr=False)
    """Secrets that are still to be made."""


class Credentials:
    """Makes what a run of several roles needs before its first Job."""

    def __init__(self, api: Api, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._clock = clock
        # Refused half-way, as by a quota, the same set is gone on with: none piles up.
        self._sets: dict[str, _Set] = {}

    async def make(self, seen: Seen, number: int) -> str:
        """Make a Secret for each role and the Service; the token in the Secrets' names.

        Raises:
            NameTakenError: the Service of that name is not this job's.
            ApiError: the server refuses one.

        """
        made = self._sets.get(seen.record.uid)
        if made is None:
            made = self._sets[seen.record.uid] = self._new_set(seen, number)
        while made.left:
            try:
                await self._api.create(SECRETS, made.left[0])
            except ApiError as error:
                # There is one already: nobody else knows its name, so the answer was lost.
                if error.status != 409:
                    raise
            del made.left[0]
        await self._make_service(seen, run_service(seen.job, number))
        return made.token

    def forget(self, uid: str) -> None:
        """The job with this UID has a Job that records its set, or is gone."""
        self._sets.pop(uid, None)

    def _new_set(self, seen: Seen, number: int) -> _Set:
        # Imported here: 8 MB that only federated jobs need.
        from green_operator.objects.credentials import make_credentials

        sites = [role for role in seen.books if role != seen.lead]
        hosts = server_hosts(seen.job, number)
        bundles = make_credentials(sites, hosts, self._clock(), secrets.token_bytes)
        token = secrets.token_hex(_TOKEN_BYTES)
        return _Set(token, run_secrets(seen.job, number, token, bundles))

    async def _make_service(self, seen: Seen, body: Object) -> None:
        name = body["metadata"]["name"]
        try:
            await self._api.create(SERVICES, body)
        except ApiError as error:
            if error.status != 409:
                raise
            # Made before by us, unless the owner is another one.
            found = await self._api.get(SERVICES, seen.key[0], name)
            if found is None:
                raise
            owners = found["metadata"].get("ownerReferences", ())
            if not any(o["uid"] == seen.record.uid and o.get("controller") for o in owners):
                raise NameTakenError(f"Service {name}") from None
