"""Verifies tokens: JSON Web Tokens (RFC 7519) of one issuer. Each is verified once, and known until its `exp`."""

import hashlib
from collections.abc import Callable, Mapping
from time import time
from typing import Any, Final, NamedTuple

import jwt
from jwt import exceptions

from contracts.ids import is_id
from infra.auth.key_set import VerificationKey
from infra.auth.keys import Keys
from infra.auth.principal import Principal, TokenFault, TokenRefused

LONGEST: Final = 4_096  # characters of a token
MOST_KNOWN: Final = 16_384
"""Verified tokens that are kept; then the oldest is verified again when it comes."""
HEADERS: Final = frozenset({"alg", "kid", "typ"})
"""What a token's header may have. Others would name keys (`jwk`, `jku`, `x5u`, `x5c`) or rules (`crit`, `b64`)."""
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
REQUIRED: Final = ("exp", "iss", "aud", "sub")

_REFUSALS: Final[Mapping[type[Exception], tuple[TokenFault, str]]] = {
    exceptions.ExpiredSignatureError: ("expired", "the token has expired; get a new one from its issuer"),
    exceptions.ImmatureSignatureError: ("not-yet-valid", "the token is not valid yet"),
    exceptions.InvalidAudienceError: ("wrong-audience", "the token is for another audience"),
    exceptions.InvalidIssuerError: ("wrong-issuer", "the token is of another issuer"),
    exceptions.MissingRequiredClaimError: ("claim-missing", f"the token lacks one of {', '.join(REQUIRED)}"),
    exceptions.InvalidAlgorithmError: ("wrong-algorithm", "the token is not signed by its key's algorithm"),
    exceptions.InvalidSignatureError: ("wrong-signature", "the token's signature is wrong"),
    exceptions.InvalidSubjectError: ("claim-invalid", "the token's `sub` is no id"),
    exceptions.InvalidIssuedAtError: ("claim-invalid", "the token's `iat` is no time"),
}


class TokenRules(NamedTuple):
    """What a token must be: of this issuer, for this audience, valid now within the leeway, and no longer than this."""

    issuer: str
    audience: str
    leeway_s: float
    max_lifetime_s: float


class TokenVerifier:
    """Verifies tokens by these rules; see the interface `infra.auth.principal.Verifier`."""

    def __init__(self, keys: Keys, rules: TokenRules, clock: Callable[[], float] = time) -> None:
        """`clock` returns seconds since the epoch; PyJWT itself compares times with the machine's clock."""
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._known: dict[bytes, Principal] = {}
        self._version = keys.version

    @property
    def trouble(self) -> str | None:
        return self._keys.trouble

    def known(self, token: str) -> Principal | None:
        caller = self._known.get(_digest(token)) if len(token) <= LONGEST else None
        now = self._clock()
        return caller if caller is not None and now < min(caller.expires_at, self._keys.look_at) else None

    async def verify(self, token: str) -> Principal:
        if len(token) > LONGEST:
            raise TokenRefused("too-large", f"the token has more than {LONGEST} characters")
        key_set = await self._keys.current()
        self._forget_if_changed()
        if (caller := self._known.get(_digest(token))) is not None and self._clock() < caller.expires_at:
            return caller
        kid = _key_id(token)
        key = key_set.keys.get(kid) or (await self._keys.newer()).keys.get(kid)
        if key is None:
            raise TokenRefused("unknown-key", "the token's key is none of its issuer's")
        self._forget_if_changed()
        caller = self._caller(self._claims(token, key))
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[_digest(token)] = caller
        return caller

    def _forget_if_changed(self) -> None:
        if self._version != self._keys.version:  # a key may be gone, and its tokens with it
            self._known.clear()
            self._version = self._keys.version

    def _claims(self, token: str, key: VerificationKey) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=self._rules.leeway_s,
                options={"require": list(REQUIRED), "verify_iat": True, "verify_nbf": True},
            )
        except exceptions.PyJWTError as error:
            reason, words = _REFUSALS.get(type(error), ("malformed", "this is no token"))
            raise TokenRefused(reason, words) from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenRefused("malformed", "this is no token") from error
        return claims

    def _caller(self, claims: dict[str, Any]) -> Principal:
        expires_at = _seconds(claims["exp"])
        begins_at = _seconds(claims.get("iat", self._clock()))
        if expires_at - begins_at > self._rules.max_lifetime_s:
            raise TokenRefused("lives-too-long", f"the token lives longer than {self._rules.max_lifetime_s:,.0f} s")
        subject, scope = claims["sub"], claims.get("scope", "")
        if not isinstance(subject, str) or not is_id(subject):
            raise TokenRefused("claim-invalid", "the token's `sub` is no id")
        if not isinstance(scope, str):
            raise TokenRefused("claim-invalid", "the token's `scope` is no text")
        return Principal(subject, frozenset(scope.split()), expires_at)


def _seconds(claim: Any) -> float:
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not abs(claim) < float(1 << 53):
        raise TokenRefused("claim-invalid", "a time of the token is no number of seconds")
    return float(claim)


def _key_id(token: str) -> str:
    """Return which key the token names. Raises TokenRefused if its header has anything but HEADERS."""
    try:
        header = jwt.get_unverified_header(token)
    except (exceptions.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefused("malformed", "this is no token") from error
    if not header.keys() <= HEADERS:
        raise TokenRefused("header-not-allowed", f"the token's header has more than {', '.join(sorted(HEADERS))}")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise TokenRefused("header-not-allowed", "the token's `typ` is not JWT")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise TokenRefused("unknown-key", "the token names no key (`kid`)")
    return kid


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
