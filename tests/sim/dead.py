"""The model of the stream DEAD: few messages, each read by its sequence, and deleted once it is redriven or dropped."""

from nats.js.api import PubAck, RawStreamMsg, StreamConfig, StreamInfo, StreamState
from nats.js.errors import BadRequestError, NotFoundError, ServerError

from infra.consuming.dead_letter import DEAD


class Dead:
    def __init__(self) -> None:
        self._config: StreamConfig | None = None
        self._last = 0
        self.messages: dict[int, RawStreamMsg] = {}

    def make(self, config: StreamConfig) -> StreamInfo:
        self._config = self._config or config
        return self.info()

    def info(self) -> StreamInfo:
        if self._config is None:
            raise NotFoundError(code=404, err_code=10059, description="stream not found")
        state = StreamState(messages=len(self.messages), bytes=0, first_seq=1, last_seq=self._last, consumer_count=0)
        return StreamInfo(config=self._config, state=state)

    def store(self, subject: str, body: bytes, headers: dict[str, str]) -> PubAck:
        self.info()
        self._last += 1
        self.messages[self._last] = RawStreamMsg(subject, self._last, body, None, dict(headers), DEAD)
        return PubAck(stream=DEAD, seq=self._last)

    def get(self, sequence: int, subject: str | None) -> RawStreamMsg:
        """The message at this sequence; with a subject, whose last token is `*`, the first match from there on."""
        self.info()
        for found, message in sorted(self.messages.items()):
            if found == sequence and subject is None:
                return message
            if found >= sequence and subject is not None and str(message.subject).startswith(subject.removesuffix("*")):
                return message
        raise NotFoundError(code=404, err_code=10037, description="no message found")

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
