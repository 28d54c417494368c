"""Asking a running attempt for its progress and energy: a tenant's word, so bounded and checked."""

from __future__ import annotations

import http.client

from green_api.contract import MAX_REPLY_BYTES, PROGRESS_PATH, ProgressReply
from pydantic import ValidationError

_TIMEOUT_SECONDS = 2.0


def ask(port: int, attempt: str, after: int) -> ProgressReply | None:
    """One question to the attempt on this machine.

    Args:
        port: where it listens on loopback.
        attempt: the UID that has to answer.
        after: the highest sequence that is known already.

    Returns:
        The reply, or None where there was none that can be used; a redirect is not followed.

    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"{PROGRESS_PATH}?after={after}")
        response = connection.getresponse()
        if response.status != http.client.OK:
            return None
        body = response.read(MAX_REPLY_BYTES + 1)
        if len(body) > MAX_REPLY_BYTES:
            return None
        reply = ProgressReply.model_validate_json(body)
    except (OSError, http.client.HTTPException, ValidationError):
        return None
    finally:
        connection.close()
    return reply if reply.attempt == attempt else None
