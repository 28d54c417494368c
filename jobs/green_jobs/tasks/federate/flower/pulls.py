"""Parts of a message that have not arrived yet: how soon they are asked for again, how long.

Flower asks after 1 s, then 2 s and so on; a part is pushed within milliseconds after its message,
so that these waits were most of a round. And it asks for three minutes where a node was killed amid
its reply, whose last parts will never come.
"""

from __future__ import annotations

from typing import Any, Final

from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.superlink.grid import HttpGrid

_FIRST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 2.0


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
