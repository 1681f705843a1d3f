"""Reads a body whose Transfer-Encoding is chunked (RFC 9112, 7.1)."""

from infra.http.grammar import (
    CHUNK,
    FIELDS,
    MAX_CHUNK_LINE_BYTES,
    MAX_CHUNK_LINES_BYTES,
    MAX_HEAD_BYTES,
    NEVER_IN_A_HEAD,
    long_head,
    malformed,
    too_large,
)
from infra.http.problems import Problem


class ChunkedBody:
    """Collects the body of a request whose Transfer-Encoding is chunked; its trailers are checked and dropped.

    The number of chunks is bounded by the bytes of their size lines: a chunk costs as much CPU as some KiB of its data.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._left = 0  # bytes of the present chunk that have not come, with the CR LF at its end
        self._lines = 0  # bytes of the lines with the chunks' sizes
        self._last = False
        self._searched = 0

    def take_from(self, buffer: bytearray) -> bytearray | None:
        """Move what has come of the body out of `buffer`. Return the body; None: more has to come.

        Raises Problem if the body is malformed or too large.
        """
        if not self._last:
            del buffer[: self._read_chunks(buffer)]
        return self._body if self._last and self._drop_trailers(buffer) else None

    def _read_chunks(self, buffer: bytearray) -> int:
        """Add to the body the data that has come; return how many bytes of `buffer` were read. Removes none of them.

        Raises Problem if a chunk is malformed, or the body too large.
        """
        at = self._read_data(buffer, 0) if self._left else 0
        while not self._left and not self._last:
            size = CHUNK.match(buffer, at, at + MAX_CHUNK_LINE_BYTES)
            if size is None:
                _check_unfinished(buffer, at)
                break
            begin, length = size.end(), int(size[1], 16)
            self._lines += begin - at
            end = begin + length
            if self._lines > MAX_CHUNK_LINES_BYTES or len(self._body) + length > self._max_bytes:
                raise self._too_much()
            if not length:
                self._last = True
                at = begin
            elif buffer.startswith(b"\r\n", end):
                self._body += buffer[begin:end]
                at = end + 2
            else:
                self._left = length + 2
                at = self._read_data(buffer, begin)
        return at

    def _too_much(self) -> Problem:
        if self._lines <= MAX_CHUNK_LINES_BYTES:
            return too_large(self._max_bytes)
        return malformed(
            f"the lines with the chunks' sizes and extensions have at most {MAX_CHUNK_LINES_BYTES} bytes together: "
            "send the body in larger chunks"
        )

    def _read_data(self, buffer: bytearray, at: int) -> int:
        """Add to the body what has come of the present chunk; return the index in `buffer` after what was read.

        The rest of the chunk begins at the index `at`. Raises Problem if the chunk is longer than its size.
        """
        data = buffer[at : at + self._left - 2]
        self._body += data
        self._left -= len(data)
        at += len(data)
        if self._left > 2:
            return at
        if buffer.startswith(b"\r\n", at):
            self._left = 0
            return at + 2
        if not b"\r\n".startswith(buffer[at : at + 2]):
            raise malformed("a chunk of the body is longer than its size")
        return at

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


def _check_unfinished(buffer: bytearray, at: int) -> None:
    """Check the bytes at the index `at`, which are no whole size line of a chunk.

    Raises Problem if they cannot become one: the line has ended, is too long, or has an LF without CR. Returns if more
    has to come.
    """
    if buffer.find(b"\r\n", at, at + MAX_CHUNK_LINE_BYTES) >= 0:
        raise malformed("a chunk of the body does not begin with its size in hexadecimal digits")
    if len(buffer) - at >= MAX_CHUNK_LINE_BYTES or buffer.find(b"\n", at) >= 0:
        raise malformed("a chunk of the body does not begin with its size and CR LF")
