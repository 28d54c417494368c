"""A grid without a network: every message is answered at once by a function of its node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from flwr.app import Message, RecordDict
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run
from green_jobs.tasks.federate.flower.grid import identify
from green_jobs.tasks.federate.flower.tasks import failure_of

Handle = Callable[[RecordDict], RecordDict]


class LoopGrid(Grid):
    """Nodes 1, 2, … in the handles' order."""

    def __init__(self, handles: Mapping[str, Handle]) -> None:
        identify(1, 1, 1)
        self.ids = {name: number for number, name in enumerate(handles, 1)}
        self._handles = {self.ids[name]: handle for name, handle in handles.items()}
        self._sent = 0
        self._replies: dict[str, Message] = {}
        self.offline: set[str] = set()
        self._hung: dict[int, range] = {}
        self._got: Counter[int] = Counter()

    def replace(self, name: str, handle: Handle) -> None:
        """Another one answers for the node."""
        self._handles[self.ids[name]] = handle

    def hang(self, name: str, *, first: int, count: int) -> None:
        """The node is there, but its messages from that one on, counted from 1, have no answer."""
        self._hung[self.ids[name]] = range(first, first + count)

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *_args: object, **_more: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [node for name, node in self.ids.items() if name not in self.offline]

    def get_nodes(self) -> NoReturn:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> str:
        self._sent += 1
        message_id = f"m{self._sent}"
        message.metadata.__dict__["_message_id"] = message_id
        node = message.metadata.dst_node_id
        self._got[node] += 1
        if self._got[node] in self._hung.get(node, ()):
            return message_id
        try:
            content = self._handles[message.metadata.dst_node_id](message.content)
            reply = Message(content, reply_to=message)
        except Exception as error:
            reply = Message(failure_of(error), reply_to=message)
        self._replies[message_id] = reply
        return message_id

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        del timeout
        return self.pull_messages(self.push_messages(messages))
