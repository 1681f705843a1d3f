"""Who is signed in: operators with a token of their own, each as long as it is valid. This process alone knows them."""

import secrets
from collections.abc import Callable
from contextvars import ContextVar
from time import time
from typing import Final, NamedTuple

from infra.auth.principal import OPS_REDRIVE, Principal, TokenRefused, Verifier

MOST: Final = 1_000
"""So many are signed in at most; then the one who signed in first is signed out."""


class Operator(NamedTuple):
    """An operator who is signed in. `session`: the secret of the browser's cookie; empty: the request had a token.

    `form_token`: what this dashboard's forms have, for the one that is on every page.
    """

    caller: Principal
    token: str
    session: str = ""
    form_token: str = ""

    @property
    def may_act(self) -> bool:
        """Whether the operator may redrive, not only read."""
        return OPS_REDRIVE in self.caller.scopes


OPERATOR: Final[ContextVar[Operator | None]] = ContextVar("OPERATOR", default=None)
"""Who has sent the request at hand; None: nobody has to sign in here, or the page is for all."""


def may_act() -> bool:
    """Whether who has sent the request at hand may redrive. Where nobody has to sign in, everybody may."""
    operator = OPERATOR.get()
    return operator is None or operator.may_act


class Sessions:
    """The operators who are signed in."""

    def __init__(self, verifier: Verifier, clock: Callable[[], float] = time) -> None:
        """`clock` returns seconds since the epoch."""
        self._verifier = verifier
        self._clock = clock
        self._known: dict[str, Operator] = {}

    async def verify(self, token: str) -> Operator:
        """Return the operator of this token, who is not signed in. Raises TokenRefused, KeysUnavailable."""
        return Operator(self._verifier.known(token) or await self._verifier.verify(token), token)

    def begin(self, operator: Operator) -> Operator:
        """Sign the operator in; return the same with the secret of the new session."""
        now = self._clock()
        for session in [one for one, known in self._known.items() if known.caller.expires_at <= now]:
            del self._known[session]
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        signed_in = operator._replace(session=secrets.token_urlsafe(32))
        self._known[signed_in.session] = signed_in
        return signed_in

    async def get(self, session: str) -> Operator | None:
        """Return who is signed in with this secret; None: nobody, or not any more. Raises KeysUnavailable.

        A token that has expired, or whose key was taken away, ends the session.
        """
        operator = self._known.get(session)
        if operator is None:
            return None
        try:
            if not self.is_over(operator) and await self.verify(operator.token):
                return operator
        except TokenRefused:
            pass
        self.end(session)
        return None

    def end(self, session: str) -> None:
        self._known.pop(session, None)

    def is_over(self, operator: Operator) -> bool:
        """Whether the operator's token has expired, or the operator has signed out."""
        gone = bool(operator.session) and operator.session not in self._known
        return gone or operator.caller.expires_at <= self._clock()
