"""The token with which tools ask services: in a file, which is read for each request, so that it may be renewed."""

import base64
import contextlib
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

import httpx

TOKEN_FILE: Final = "OPERATOR_TOKEN_FILE"  # noqa: S105 - a name
"""The variable that names the file; unset or blank: requests have no token."""
LONGEST: Final = 8_192  # bytes


class OperatorToken(httpx.Auth):
    """Sends the token that is in a file, with requests that have none of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """Return the token. Raises ValueError, in words, if the file cannot be read or has no token alone."""
        try:
            with self._path.open("rb") as file:
                token = file.read(LONGEST + 1).decode("ascii").strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"{TOKEN_FILE}={self._path} cannot be read: {error}") from error
        if not 0 < len(token) < LONGEST or len(token.split()) != 1:
            raise ValueError(f"{TOKEN_FILE}={self._path} has to have one token and nothing else")
        return token

    def subject(self) -> str | None:
        """Return whom the token names, without verifying it; None if there is no token, or it is none."""
        try:
            claims = self.token().split(".")[1]
            named = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return named if isinstance(named, str) else None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Without a token in the file the request is sent without one: the answer then says that one is missing."""
        if "Authorization" not in request.headers:
            with contextlib.suppress(ValueError):
                request.headers["Authorization"] = f"Bearer {self.token()}"
        yield request


def token_file(env: Mapping[str, str]) -> OperatorToken | None:
    """Return the file that TOKEN_FILE names; None if it is not set."""
    named = env.get(TOKEN_FILE, "").strip()
    return OperatorToken(Path(named)) if named else None
