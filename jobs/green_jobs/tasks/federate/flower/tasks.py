"""A site's end: taking the site's tasks in a process that stays."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httpx
from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output
from green_api.errors import TaskConfigError

from green_jobs.tasks.federate.errors import CONFIG_CODE
from green_jobs.tasks.federate.flower.pulls import hurry
from green_jobs.tasks.federate.flower.runtime import (
    Endpoint,
    acquire,
    acquiring_client,
    heartbeat,
    task_client,
)

_POLL_SECONDS: Final = 0.1
_LOG: Final = logging.getLogger(__name__)

Handle = Callable[[RecordDict], RecordDict]
"""Does one task."""


def serve_tasks(
    endpoint: Endpoint,
    secret: bytes,
    handle: Handle,
    stop: threading.Event,
    remember: Callable[[int], None],
) -> None:
    """Do the site's tasks, one after the other; exactly one process per SuperNode does so.

    Args:
        endpoint: the SuperNode's Runtime API, on this machine.
        secret: what the SuperNode was started with.
        handle: does a task; what it raises is told to the server and ends only the task.
        stop: set it to end before the next task.
        remember: is told the id of the site's node.

    """
    hurry()
    acquirer = acquiring_client(endpoint, secret)
    while not stop.is_set():
        token = None
        with suppress(httpx.TransportError):  # the SuperNode is being started again
            token = acquire(acquirer, TaskType.CLIENT_APP)
        if token is None:
            stop.wait(_POLL_SECONDS)
            continue
        client = task_client(endpoint, token, "flwr-clientapp")
        try:
            with heartbeat(client):
                _do(client, handle, remember)
        except (httpx.HTTPError, ObjectPullError, RuntimeError) as error:
            _LOG.warning("a task is lost: %s", error)
        finally:
            client.close()
    acquirer.close()


def _do(client: RuntimeHttpClient, handle: Handle, remember: Callable[[int], None]) -> None:
    message, context, _, _ = pull_task_input(client)
    remember(context.node_id)
    try:
        reply = Message(handle(message.content), reply_to=message)
    except Exception as error:  # whatever a user's model or data raises
        _LOG.exception("the task failed")
        reply = Message(failure_of(error), reply_to=message)
    push_message(client, reply, context)
    push_task_output(client, context, SubStatus.COMPLETED, "")


def failure_of(error: Exception) -> Error:
    """What the server is told of an error: also whether trying again is of any use."""
    if isinstance(error, TaskConfigError):
        return Error(code=CONFIG_CODE, reason=str(error))
    reason = f"{type(error).__name__}: {error}"
    return Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason)
