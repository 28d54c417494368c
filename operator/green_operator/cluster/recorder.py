"""Events on jobs, for `kubectl describe`; trouble with them is no trouble of the job."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from green_api import API_VERSION
from green_api.job import GreenTrainingJob

from green_operator.cluster.api import EVENTS, Api, ApiError
from green_operator.lifecycle.events import Event

_CONTROLLER: Final = "greentraining.io/operator"
_MAX_NOTE_BYTES: Final = 1024

_logger = logging.getLogger(__name__)


class Recorder:
    """Posts events; each transition once."""

    def __init__(self, api: Api, instance: str) -> None:
        self._api = api
        self._instance = instance[:128]

    async def post(self, job: GreenTrainingJob, events: Iterable[Event]) -> None:
        """Post what became different of a job."""
        meta = job.metadata
        await self._post(meta.namespace, meta.name, meta.uid, events)

    async def post_about(self, body: dict[str, Any], events: Iterable[Event]) -> None:
        """Post about an object that could not be read."""
        meta = body["metadata"]
        await self._post(meta["namespace"], meta["name"], meta["uid"], events)

    async def _post(self, namespace: str, name: str, uid: str, events: Iterable[Event]) -> None:
        for event in events:
            body = {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
                "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "reportingController": _CONTROLLER,
                "reportingInstance": self._instance,
                "action": event.reason,
                "reason": event.reason,
                "type": event.type,
                "note": event.message.encode()[:_MAX_NOTE_BYTES].decode(errors="ignore"),
                "regarding": {
                    "apiVersion": API_VERSION,
                    "kind": "GreenTrainingJob",
                    "namespace": namespace,
                    "name": name,
                    "uid": uid,
                },
            }
            try:
                await self._api.create(EVENTS, body)
            except ApiError as error:
                _logger.warning("%s/%s: event %s: %s", namespace, name, event.reason, error)
