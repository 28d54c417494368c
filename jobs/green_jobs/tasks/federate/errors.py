"""How a federated role may end before its work is done."""

from __future__ import annotations

from green_api.errors import GreenError


class RoundAbandonedError(GreenError):
    """The round was left; what stood before it stands."""


class StalledError(GreenError):
    """Too few sites were there for too long, and the job is to fail then."""


class RefusedError(GreenError):
    """The server does not let this site in."""
