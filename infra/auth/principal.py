"""The caller that a valid token names, and why a token is refused. It imports no library of tokens, an extra."""

from typing import Final, Literal, NamedTuple, Protocol

OPS_READ: Final = "ops:read"
OPS_REDRIVE: Final = "ops:redrive"
"""Scopes of operators: read what the service knows of itself; handle, drop and rebuild."""

TokenFault = Literal[
    "malformed",
    "too-large",
    "header-not-allowed",
    "unknown-key",
    "wrong-algorithm",
    "wrong-signature",
    "wrong-issuer",
    "wrong-audience",
    "claim-missing",
    "claim-invalid",
    "expired",
    "not-yet-valid",
    "lives-too-long",
]
"""Why a token is refused, for metrics and logs of the issuer's side; a client gets the description alone."""


class Principal(NamedTuple):
    """Who has sent a request. `subject` is an id as `contracts.ids` has them."""

    subject: str
    scopes: frozenset[str]
    expires_at: float
    """The token's `exp`, in seconds since the epoch."""


class TokenRefused(Exception):
    """The token cannot be used. The message, for the client, has nothing of the token."""

    def __init__(self, reason: TokenFault, description: str) -> None:
        super().__init__(description)
        self.reason: TokenFault = reason


class KeysUnavailable(Exception):
    """No token can be verified now, because no keys are known, or the known ones are too old. The message says why."""


class Verifier(Protocol):
    """Tells who has sent a token."""

    @property
    def trouble(self) -> str | None:
        """What an operator has to look at, in words; None: the keys were read when they were due last."""

    def known(self, token: str) -> Principal | None:
        """Return the caller if this token was verified and need not be now; None: `verify` has to tell."""

    async def verify(self, token: str) -> Principal:
        """Return the caller. Raises TokenRefused; KeysUnavailable."""
