"""Reads a body whose Transfer-Encoding is chunked (RFC 9112, 7.1)."""

from infra.http.grammar import (
    CHUNK,
    FIELDS,
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    NEVER_IN_A_HEAD,
    long_head,
    malformed,
    too_large,
)


class ChunkedBody:
    """Collects the body of a request whose Transfer-Encoding is chunked; its trailers are checked and dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._left = 0  # bytes of the present chunk that have not come, with the CR LF at its end
        self._extensions = 0
        self._last = False
        self._searched = 0

    def take_from(self, buffer: bytearray) -> bytearray | None:
        """Move what has come of the body out of `buffer`; return the body when it is complete. Raises Problem."""
        while not self._last:
            if not self._left and not self._read_size(buffer):
                return None
            if self._left and not self._read_data(buffer):
                return None
        return self._body if self._drop_trailers(buffer) else None

    def _read_size(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE_BYTES or b"\n" in buffer:
                raise malformed("a chunk of the body does not begin with its size and CR LF")
            return False
        size = CHUNK.fullmatch(bytes(buffer[:end]))  # a copy: a match reads its groups later
        if size is None:
            raise malformed("a chunk of the body does not begin with its size in hexadecimal digits")
        self._extensions += end - size.end(1)
        if self._extensions > MAX_HEAD_BYTES:
            raise malformed(f"the chunk extensions of a body have at most {MAX_HEAD_BYTES} bytes together")
        del buffer[: end + 2]
        length = int(size[1], 16)
        if len(self._body) + length > self._max_bytes:
            raise too_large(self._max_bytes)
        self._last = not length
        self._left = length + 2 if length else 0
        return True

    def _read_data(self, buffer: bytearray) -> bool:
        """Take what has come of the present chunk; return whether it is complete."""
        data = buffer[: max(0, self._left - 2)]
        self._body += data
        self._left -= len(data)
        del buffer[: len(data)]
        if self._left > 2 or not buffer:
            return False
        if not b"\r\n".startswith(buffer[:2]):
            raise malformed("a chunk of the body is longer than its size")
        if len(buffer) < 2:
            return False
        del buffer[:2]
        self._left = 0
        return True

    def _drop_trailers(self, buffer: bytearray) -> bool:
        if buffer.startswith(b"\r\n"):
            del buffer[:2]
            return True
        end = buffer.find(b"\r\n\r\n", self._searched, MAX_HEAD_BYTES)
        if end < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                raise long_head(f"the trailers have at most {MAX_HEAD_BYTES} bytes together")
            if NEVER_IN_A_HEAD.search(buffer, max(0, self._searched - 1)):
                raise malformed("the trailers of the body are no lines that end with CR LF")
            self._searched = max(0, len(buffer) - 3)
            return False
        if not FIELDS.fullmatch(buffer, 0, end + 2):
            raise malformed('the trailers of the body are no lines "Name: value"')
        del buffer[: end + 4]
        return True
