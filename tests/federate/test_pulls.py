"""What is made of replies, against the pinned Flower: its own grid, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from flwr.app import Array, Message, RecordDict
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.constant import HEAD_BODY_DIVIDER
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.run import Run
from flwr.superlink.grid import HttpGrid
from green_jobs.tasks.federate.flower.grid import identify
from green_jobs.tasks.federate.flower.pulls import (
    give_up_with_the_node,
    hurry,
    read_each_by_itself,
)
from green_jobs.tasks.federate.records import ARRAYS, pack, unpack

from tests.federate.test_flower import MAX_BYTES


class _Cut:
    """A Runtime API that has a reply of node 7 whose last part never comes."""

    def __init__(self) -> None:
        self.asked = 0

    def PullMessages(self, _: object) -> PullAppMessagesResponse:  # noqa: N802 - Flower's
        message = ProtoMessage(
            metadata=ProtoMetadata(message_id="reply", src_node_id=7, reply_to_message_id="asked")
        )
        tree = ObjectTree(object_id="whole", children=[ObjectTree(object_id="part")])
        return PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])

    def PullObject(  # noqa: N802 - Flower's
        self, request: PullObjectRequest
    ) -> PullObjectResponse:
        self.asked += 1
        is_there = request.object_id == "whole"
        return PullObjectResponse(object_found=True, object_available=is_there)


def test_the_rest_of_a_reply_is_not_waited_for_once_its_node_is_gone() -> None:
    class Grid(HttpGrid):
        _runtime_client = _Cut()  # type: ignore[assignment]

        def get_node_ids(self) -> list[int]:
            return [7] if self._runtime_client.asked < 6 else [8]  # type: ignore[attr-defined]

    hurry()
    grid = Grid("127.0.0.1:1", insecure=True, token="a token")
    grid.set_run(Run.create_empty(1))
    give_up_with_the_node(grid)
    (reply,) = grid.pull_messages(["asked"])
    assert reply.metadata.reply_to_message_id == "asked"
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE


class _Mixed:
    """A Runtime API that has replies of several nodes at once: by what they answer, their parts."""

    def __init__(self, replies: Mapping[str, Message]) -> None:
        self.trees = [get_object_tree(reply) for reply in replies.values()]
        self.asked = list(replies)
        self.confirmed: set[str] = set()
        self.parts = {
            part: held.deflate()
            for reply in replies.values()
            for part, held in get_all_nested_objects(reply).items()
        }

    def PullMessages(self, _: object) -> PullAppMessagesResponse:  # noqa: N802 - Flower's
        messages = [
            ProtoMessage(
                metadata=ProtoMetadata(message_id=tree.object_id, reply_to_message_id=asked)
            )
            for tree, asked in zip(self.trees, self.asked, strict=True)
        ]
        return PullAppMessagesResponse(messages_list=messages, message_object_trees=self.trees)

    def PullObject(  # noqa: N802 - Flower's
        self, request: PullObjectRequest
    ) -> PullObjectResponse:
        content = self.parts[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(  # noqa: N802 - Flower's
        self, request: ConfirmMessageReceivedRequest
    ) -> None:
        self.confirmed.add(request.message_object_id)

    def damage(self, kind: type, content: bytes) -> None:
        """Another body for the part of that kind of the first reply; what stands there stays."""
        for tree in iterate_object_tree(self.trees[0]):
            head, _, _ = self.parts[tree.object_id].partition(HEAD_BODY_DIVIDER)
            if head.startswith(kind.__qualname__.encode() + b" "):
                self.parts[tree.object_id] = head + HEAD_BODY_DIVIDER + content


def _reply(asked: str, value: float) -> Message:
    order = Message(RecordDict(), dst_node_id=7, message_type="train")
    order.metadata.__dict__["_message_id"] = asked
    return Message(RecordDict({ARRAYS: pack({"w": np.full(2, value)})}), reply_to=order)


def _head_naming_one_part(times: int) -> bytes:
    head = {"dtype": "float64", "shape": [2], "stype": "safetensors", "arraychunk_ids": [0] * times}
    return json.dumps(head).encode()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda made: made.damage(Array, b"no JSON"), "JSONDecodeError"),
        (lambda made: made.damage(Array, b"{}"), "KeyError"),
        (lambda made: made.damage(RecordDict, b"\xff"), "Error"),
        (lambda made: made.damage(Message, b"\xff"), "DecodeError"),
        (lambda made: made.asked.__setitem__(0, "another"), "it names another message"),
        (lambda made: made.damage(Array, _head_naming_one_part(10**5)), "or more, at most"),
        (lambda made: made.damage(ArrayChunk, bytes(3 * MAX_BYTES)), "or more, at most"),
    ],
    ids=["array", "metadata", "records", "message", "impostor", "bomb", "flood"],
)
def test_a_reply_that_cannot_be_read_is_an_error_of_its_own(
    damage: Callable[[_Mixed], None], says: str
) -> None:
    """A SuperLink looks at the heads of objects alone; their bodies are what a node likes."""
    identify(1, 1, 1)
    client = _Mixed({"first": _reply("first", 1.0), "second": _reply("second", 2.0)})
    damage(client)

    class Grid(HttpGrid):
        _runtime_client = client  # type: ignore[assignment]

    grid = Grid("127.0.0.1:1", insecure=True, token="a token")
    grid.set_run(Run.create_empty(1))
    read_each_by_itself(grid, MAX_BYTES)
    bad, good = grid.pull_messages(client.asked)
    assert bad.metadata.reply_to_message_id == client.asked[0]
    assert bad.error.reason.startswith("its answer cannot be read: ")
    assert says in bad.error.reason
    assert good.metadata.reply_to_message_id == "second"
    # Nothing is kept for us: not what was refused either.
    assert client.confirmed == {tree.object_id for tree in client.trees}
    (weights,) = unpack(good.content[ARRAYS]).values()  # type: ignore[arg-type]
    assert (weights == 2).all()
