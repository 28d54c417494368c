"""How a node takes orders, against the pinned Flower: its own function, in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import Status
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory
from green_jobs.tasks.federate.flower.grid import identify
from green_jobs.tasks.federate.flower.supernode import takes_whole
from green_jobs.tasks.federate.records import CONFIG


@pytest.mark.parametrize("refused", ["PullObject", "ConfirmMessageReceived"])
def test_an_order_whose_run_ends_while_it_is_taken_is_forgotten_with_its_task(refused: str) -> None:
    """Else its trainer's answer is taken for that of the next order, whose own is not passed on."""
    node = _Node()
    node.refused = refused
    assert node.take() is None
    assert node.state.get_messages_legacy() == []
    assert node.order.object_id not in node.store
    assert [task.status.status for task in node.state.get_tasks()] == [Status.FINISHED]


def test_an_answer_that_came_before_its_order_was_forgotten_is_not_that_of_the_next() -> None:
    node = _Node()
    node.refused = "ConfirmMessageReceived"
    node.while_confirmed = lambda: start_client_internal._insert_message(
        Message(RecordDict(), reply_to=node.order), node.state, node.store
    )
    assert node.take() is None
    node.refused, node.while_confirmed = "", lambda: None
    assert node.take() == 1
    (order,) = node.state.get_messages_legacy()
    assert order.metadata.message_id == node.order.object_id


class _Node:
    """Flower's node, as it takes an order from a SuperLink that refuses a request."""

    def __init__(self) -> None:
        identify(1, 1, 1)
        factory = ObjectStoreFactory()
        self.state, self.store = NodeStateFactory(factory).state(), factory.store()
        self.state.set_node_id(1)
        self.state.store_run(Run.create_empty(1))
        self.refused = ""
        self.while_confirmed: Callable[[], object] = lambda: None
        content = RecordDict({CONFIG: ConfigRecord({})})
        self.order = Message(content, dst_node_id=1, message_type="query")
        self.order.metadata.__dict__["_message_id"] = self.order.object_id
        self._parts = {i: part.deflate() for i, part in get_all_nested_objects(self.order).items()}

    def take(self) -> int | None:
        return takes_whole(start_client_internal._pull_and_store_message)(
            state=self.state, object_store=self.store, node_config={},
            receive=lambda: (self.order, get_object_tree(self.order)), get_run=None, get_fab=None,
            pull_object=self._pull, confirm_message_received=self._confirm, trusted_entities=None,
        )  # fmt: skip

    def _pull(self, _run: int, part: str) -> bytes:
        self._refuse("PullObject")
        return self._parts[part]

    def _confirm(self, _run: int, _message: str) -> None:
        self.while_confirmed()
        self._refuse("ConfirmMessageReceived")

    def _refuse(self, request: str) -> None:
        if self.refused == request:
            raise RunNotRunningException
