"""What a zone refers to, in the operator's namespace."""

from __future__ import annotations

from typing import Protocol


class References(Protocol):
    """Reads the keys of ConfigMaps and Secrets; a cluster and one machine have one each.

    Either may raise ``GreenError``, ``OSError`` (``TimeoutError`` is one), ``UnicodeError`` or
    ``aiohttp.ClientError``: the source then counts as failed and is asked again soon. Both are
    called anew for each poll, so that a new trace or key is used without a restart.
    """

    async def read_config_map(self, name: str, key: str) -> bytes | None:
        """The value, of ``data`` or ``binaryData``; None where it does not exist."""

    async def read_secret(self, name: str, key: str) -> str | None:
        """The value; None where it does not exist."""
