"""Pulling messages: how soon and how long parts are asked for again, and what cannot be read.

Flower asks after 1 s, then 2 s and so on; a part is pushed within milliseconds after its message,
so that these waits were most of a round. And it asks for three minutes where a node was killed amid
its reply, whose last parts will never come. What a reply holds is the node's own, and where Flower
cannot read it, it raises: the other replies of the same look were lost with it. Nor does Flower
bound it, where a few kilobytes may name one part a million times.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import httpx
from flwr.app import Array, Message, RecordDict
from flwr.app.error import Error
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.superlink.grid import HttpGrid, http_grid

_FIRST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 2.0
# What a reply holds beside its arrays' data: heads, names, metrics.
_BESIDE_BYTES: Final = 2**20

_Pull = Callable[[PullObjectRequest], PullObjectResponse]


class _TooLargeError(Exception):
    """More than a reply may have."""


def hurry() -> None:
    """Set it for this process, in what takes it as a default."""
    functions: tuple[Any, ...] = (
        inflatable_utils.pull_objects,
        inflatable_utils.pull_and_inflate_object_from_tree,
    )
    for function in functions:
        function.__kwdefaults__["initial_backoff"] = _FIRST_SECONDS
        function.__kwdefaults__["backoff_cap"] = _MOST_SECONDS


def give_up_with_the_node(grid: HttpGrid) -> None:
    """Wait for the parts of a reply no longer than its node is there; then it is an error."""
    client: Any = grid._runtime_client
    pull_messages, pull_object = client.PullMessages, client.PullObject
    senders: dict[str, set[int]] = {}

    def note_senders(request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        answer: PullAppMessagesResponse = pull_messages(request)
        senders.clear()
        for message, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            for part in iterate_object_tree(tree):
                # Equal parts of two replies are one object.
                senders.setdefault(part.object_id, set()).add(message.metadata.src_node_id)
        return answer

    def pull(request: PullObjectRequest) -> PullObjectResponse:
        answer: PullObjectResponse = pull_object(request)
        is_awaited = answer.object_found and not answer.object_available
        if is_awaited and senders.get(request.object_id, set()).isdisjoint(grid.get_node_ids()):
            return PullObjectResponse(object_found=False)
        return answer

    client.PullMessages, client.PullObject = note_senders, pull


def read_each_by_itself(grid: HttpGrid, max_bytes: int) -> None:
    """Make an error of a reply that cannot be read, or that claims to answer something else.

    Args:
        grid: it is changed; the bound holds for the whole process.
        max_bytes: of a reply that is larger, no more than that is held in memory.

    """
    client: Any = grid._runtime_client
    pull_messages, pull_object, read = client.PullMessages, client.PullObject, grid.pull_messages
    vars(http_grid)["inflate_object_from_contents"] = _inflating(max_bytes)

    def read_one(message: ProtoMessage, tree: ObjectTree) -> Message:
        # Flower's own reader, which is given this message alone.
        client.PullMessages = lambda _: PullAppMessagesResponse(
            messages_list=[message], message_object_trees=[tree]
        )
        client.PullObject = _pulling(pull_object, max_bytes)
        asked = message.metadata.reply_to_message_id
        try:
            (reply,) = read([asked])
            if reply.metadata.reply_to_message_id != asked:
                return _unreadable(message, "it names another message than it answers")
            content: object = None if reply.has_error() else reply.content
            if not isinstance(content, RecordDict | None):
                return _unreadable(message, "it holds no records")
        except httpx.HTTPError:
            raise
        except _TooLargeError as error:
            # What is not taken need not be kept for us.
            client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=grid.node, run_id=message.metadata.run_id, message_object_id=tree.object_id
                )
            )
            return _unreadable(message, str(error))
        except Exception as error:  # also of memory: the objects are whatever the node has sent
            return _unreadable(message, f"{type(error).__name__}: {error}")
        return reply

    def pull(message_ids: Iterable[str]) -> list[Message]:
        answer = pull_messages(PullAppMessagesRequest(message_ids=message_ids))
        pairs = zip(answer.messages_list, answer.message_object_trees, strict=True)
        return [read_one(message, tree) for message, tree in pairs]

    vars(grid)["pull_messages"] = pull


def _pulling(pull: _Pull, max_bytes: int) -> _Pull:
    """Pull the parts of one reply, until they are too many."""
    pulled, lock = 0, threading.Lock()

    def counted(request: PullObjectRequest) -> PullObjectResponse:
        nonlocal pulled
        answer = pull(request)
        with lock:
            pulled += len(answer.object_content)
            _bound(pulled, max_bytes)
        return answer

    return counted


def _inflating(max_bytes: int) -> Callable[[str, dict[str, bytes]], InflatableObject]:
    """Flower's function, which puts each part into an array as often as the array's head says."""

    def bounded(object_id: str, contents: dict[str, bytes]) -> InflatableObject:
        _bound(_inflated_bytes(contents), max_bytes)
        return inflatable_utils.inflate_object_from_contents(object_id, contents)

    return bounded


def _inflated_bytes(contents: Mapping[str, bytes]) -> int:
    total = 0
    for content in contents.values():
        kind, children, _ = get_object_head_values_from_object_content(content)
        if kind == Array.__qualname__:
            named = json.loads(get_object_body(content, Array))["arraychunk_ids"]
            total += sum(len(contents[children[place]]) for place in named)
    return total


def _bound(size: int, max_bytes: int) -> None:
    """The exact bound is of the data alone, which is seen only later."""
    if size > max_bytes + _BESIDE_BYTES:
        msg = f"it has {size} bytes or more, at most {max_bytes} are taken"
        raise _TooLargeError(msg)


def _unreadable(message: ProtoMessage, why: str) -> Message:
    # Nothing else is taken over: what it says of itself may be no better.
    metadata = Metadata(
        run_id=0, message_id="", src_node_id=0, dst_node_id=0, group_id="", created_at=0.0, ttl=0.0,
        message_type=SYSTEM_MESSAGE_TYPE,
        reply_to_message_id=message.metadata.reply_to_message_id,
    )  # fmt: skip
    error = Error(ErrorCode.UNKNOWN, f"its answer cannot be read: {why}")
    return make_message(metadata, error=error)
