"""The namespaces whose jobs are run, and which of them are there.

A namespace that is deleted takes the operator's Role with it, so that its lists are refused (403).
That is no reason to leave the jobs of the others alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from green_operator.cluster.api import JOBS, PODS, RUNS, Api, ApiError
from green_operator.metrics import OperatorMetrics

EVERYWHERE: Final = ""
"""Stands for all namespaces, where none is named."""
_AWAY: Final = frozenset({403, 404})

_logger = logging.getLogger(__name__)


class Namespaces:
    """The named ones with what was last seen of them; all namespaces where none is named.

    Args:
        api: asks the server.
        names: from the configuration.
        metrics: say which of the named ones are there.

    """

    def __init__(self, api: Api, names: Sequence[str], metrics: OperatorMetrics) -> None:
        self._api = api
        self._names = names
        self._metrics = metrics
        self._away: frozenset[str] = frozenset()
        self.changed = asyncio.Event()
        """Set where others are there than at the last look; whoever waits for it clears it."""

    @property
    def available(self) -> list[str]:
        """The named ones that could be listed at the last look; empty where none is named."""
        return [name for name in self._names if name not in self._away]

    async def look(self) -> list[str]:
        """Ask which ones can be listed: these, or ``EVERYWHERE``.

        Raises:
            ApiError: the server did not say.

        """
        if not self._names:
            await self._api.probe(JOBS)
            return [EVERYWHERE]
        before, self._away = self._away, frozenset([n for n in self._names if await self._lacks(n)])
        for name in before - self._away:
            _logger.info("namespace %s is there again", name)
        if before != self._away:
            self.changed.set()
        self._metrics.namespaces.show({(n,): float(n not in self._away) for n in self._names})
        return self.available

    async def _lacks(self, name: str) -> bool:
        try:
            for kind in (JOBS, RUNS, PODS):
                await self._api.probe(kind, name)
        except ApiError as error:
            if error.status not in _AWAY:
                raise
            if name not in self._away:
                _logger.warning(
                    "watchNamespaces: %s cannot be listed (%s); its jobs are left alone until it "
                    "can. Make the namespace and upgrade the release, or take it from the list",
                    name, error,
                )  # fmt: skip
            return True
        return False
