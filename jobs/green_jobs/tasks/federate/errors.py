"""How a federated role may end before its work is done."""

from __future__ import annotations

from typing import Final

from green_api.errors import GreenError

CONFIG_CODE: Final = 65
"""Of Flower's error that a site answers with where it cannot work as the task is written."""


class RoundAbandonedError(GreenError):
    """The round was left; what stood before it stands."""


class StalledError(GreenError):
    """Too few sites were there for too long, and the job is to fail then."""


class RefusedError(GreenError):
    """The server does not let this site in."""


class NoRoomError(GreenError):
    """The model that came of the rounds cannot be written."""
