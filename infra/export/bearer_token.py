"""The bearer token, read from a file and read again if the file has changed."""

import re
import stat
from pathlib import Path
from typing import Final

from infra.export.errors import TokenError

TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750, section 2.1


class TokenFile:
    """Gives the bearer token of a file that has nothing but the token, on one line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._token = ""

    def header(self) -> str:
        """Return the value of the header Authorization, `Bearer <token>`; reads the file if it has changed.

        Raises TokenError if the file cannot be read, is readable by every user, or is not one token on one line.
        """
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
            if seen != self._seen:
                self._token = self._read(status.st_mode)
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"{self._path}, the file of the bearer token, cannot be read: {error}") from error
        return f"Bearer {self._token}"

    def _read(self, mode: int) -> str:
        if mode & stat.S_IROTH:
            raise TokenError(
                f"{self._path}, the file of the bearer token, can be read by every user of this machine: "
                f"chmod o-r {self._path} (and take another token: this one may be known)"
            )
        token = self._path.read_text(encoding="ascii").strip()
        if not TOKEN.fullmatch(token):
            raise TokenError(f"{self._path} does not hold one bearer token on one line")
        return token
