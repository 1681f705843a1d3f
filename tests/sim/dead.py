"""The model of the stream DEAD: few messages, each read by its sequence, and deleted once it is redriven or dropped."""

from nats.js.api import PubAck, StreamConfig, StreamInfo, StreamState
from nats.js.errors import BadRequestError, NotFoundError, ServerError

from infra.broker.client import VERSION_LINE
from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter import DEAD
from tests.sim.reading import NO_STREAM, Answers, by_api, directly, is_on


class Dead:
    def __init__(self) -> None:
        self._config: StreamConfig | None = None
        self._last = 0
        self.messages: dict[int, StoredMessage] = {}

    def make(self, config: StreamConfig) -> StreamInfo:
        self._config = self._config or config
        return self.info()

    def info(self, subject: str | None = None) -> StreamInfo:
        """With a subject: how many messages each subject that matches has."""
        if self._config is None:
            raise NotFoundError(code=404, err_code=10059, description="stream not found")
        state = StreamState(messages=len(self.messages), bytes=0, first_seq=1, last_seq=self._last, consumer_count=0)
        if subject is not None:
            found = [message.subject for message in self._in_order() if is_on(message.subject, subject)]
            state.subjects = {name: found.count(name) for name in found}
        return StreamInfo(config=self._config, state=state)

    def store(self, subject: str, body: bytes, headers: dict[str, str]) -> PubAck:
        self.info()
        self._last += 1
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        raw = f"{VERSION_LINE}\r\n{lines}\r\n".encode() if headers else b""
        self.messages[self._last] = StoredMessage(self._last, subject, body, raw, 0)
        return PubAck(stream=DEAD, seq=self._last)

    def _in_order(self) -> list[StoredMessage]:
        return [found for _, found in sorted(self.messages.items())]

    def answer(self, request: bytes) -> bytes:
        """Answer the API's request for one message."""
        return NO_STREAM if self._config is None else by_api(self._in_order(), request)

    def directly(self, subject: str, request: bytes) -> Answers:
        return directly(DEAD, self._in_order(), subject, request)

    def delete(self, sequence: int) -> bool:
        self.info()
        if not self.messages or sequence > self._last:
            raise ServerError(code=500, err_code=10057, description="message delete failed")
        if self.messages.pop(sequence, None) is None:
            raise BadRequestError(code=400, err_code=10043, description=f"sequence {sequence} not found")
        return True

    def lose_tail(self, messages: int) -> None:
        """Lose the messages written last. Their sequences are given once more."""
        for sequence in sorted(self.messages)[len(self.messages) - min(messages, len(self.messages)) :]:
            del self.messages[sequence]
            self._last = min(self._last, sequence - 1)
