"""A grid without a network: every message is answered at once by a function of its node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

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
        self._replies: dict[str, Message] = {}
        self.offline: set[str] = set()

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *_args: object, **_more: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [node for name, node in self.ids.items() if name not in self.offline]

    def get_nodes(self) -> Iterable[object]:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> str:
        message_id = f"m{len(self._replies)}-{message.metadata.dst_node_id}"
        message.metadata.__dict__["_message_id"] = message_id
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
