"""The model of the stream DEAD: few messages, each read by its sequence, and deleted once it is redriven or dropped."""

from collections.abc import Iterator
from typing import Any

import msgspec
from nats.js.api import PubAck, StreamConfig, StreamInfo, StreamState
from nats.js.errors import BadRequestError, NotFoundError, ServerError

from infra.broker.client import VERSION_LINE
from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter import DEAD


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
            found = [message.subject for message in self._on(subject)]
            state.subjects = {name: found.count(name) for name in found}
        return StreamInfo(config=self._config, state=state)

    def store(self, subject: str, body: bytes, headers: dict[str, str]) -> PubAck:
        self.info()
        self._last += 1
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        raw = f"{VERSION_LINE}\r\n{lines}\r\n".encode() if headers else b""
        self.messages[self._last] = StoredMessage(self._last, subject, body, raw)
        return PubAck(stream=DEAD, seq=self._last)

    def _on(self, subject: str) -> list[StoredMessage]:
        """The messages on a subject, whose last token is `*`, in their order."""
        prefix = subject.removesuffix("*")
        return [found for _, found in sorted(self.messages.items()) if found.subject.startswith(prefix)]

    def answer(self, request: bytes) -> bytes:
        """Answer the API's request for one message: by its sequence, or the next or the last one on a subject."""
        wanted: dict[str, Any] = msgspec.json.decode(request)
        if self._config is None:
            return b'{"error":{"code":404,"err_code":10059,"description":"stream not found"}}'
        if "last_by_subj" in wanted:
            found = self._on(wanted["last_by_subj"])[-1:]
        elif "next_by_subj" in wanted:
            found = [message for message in self._on(wanted["next_by_subj"]) if message.sequence >= wanted["seq"]][:1]
        else:
            found = [self.messages[wanted["seq"]]] if wanted["seq"] in self.messages else []
        if not found:
            return b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'
        sequence, subject, body, raw = found[0]
        message = {"seq": sequence, "subject": subject, "hdrs": raw, "data": body}
        return msgspec.json.encode({"message": {name: value for name, value in message.items() if value != b""}})

    def directly(self, request: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Answer the request for a batch: headers and body of each message, and of the end."""
        wanted: dict[str, Any] = msgspec.json.decode(request)
        found = [message for message in self._on(wanted["next_by_subj"]) if message.sequence >= wanted["seq"]]
        for sequence, subject, body, raw in found[: wanted["batch"]]:
            own = raw.removesuffix(b"\r\n\r\n") or VERSION_LINE.encode()
            added = f"\r\nNats-Stream: DEAD\r\nNats-Subject: {subject}\r\nNats-Sequence: {sequence}\r\n\r\n"
            yield own + added.encode(), body
        yield f"{VERSION_LINE} {'204 EOB' if found else '404 Message Not Found'}\r\n\r\n".encode(), b""

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
