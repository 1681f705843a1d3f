"""Reads a JWKS (RFC 7517): the issuer's public keys, each with the one algorithm for which it is used.

The algorithm comes from the key, never from a token. So a token cannot choose a weaker one, or use a public key as a
shared secret.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import jwt

ALGORITHMS: Final = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}
"""The algorithm of a key by its type and curve. All others are not used."""
LEAST_RSA_BITS: Final = 2_048
MOST_KEYS: Final = 64
MOST_BYTES: Final = 1 << 16
"""A larger document is none."""
PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
LONGEST_KID: Final = 256  # characters


class VerificationKey(NamedTuple):
    """A public key, and the algorithm of the signatures that it verifies."""

    public: Any
    algorithm: str


class KeySet(NamedTuple):
    """The usable keys of a document, by `kid`. `development`: the document says that it is of a development key."""

    keys: Mapping[str, VerificationKey]
    development: bool = False


def parse_key_set(document: bytes) -> KeySet:
    """Return the usable keys of this document. Keys of other types, algorithms or uses are left out, and without `kid`.

    Raises ValueError, in words, if no key is usable, a `kid` is repeated, or a key has private parts.
    """
    if len(document) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        told = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error
    listed = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise ValueError(f"it has no list `keys` of at most {MOST_KEYS} keys")
    found: dict[str, VerificationKey] = {}
    for number, key in enumerate(listed, 1):
        if not isinstance(key, dict):
            raise ValueError(f"key {number} is no object")  # noqa: TRY004 - of the document, not of an argument
        if key.get("kty") != "oct" and PRIVATE & key.keys():
            raise ValueError(f"key {number} has private parts: publish public keys alone, and replace this one")
        kid = key.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID:
            continue
        if (usable := _usable(key)) is not None:
            if kid in found:
                raise ValueError(f"key {number} has the `kid` of another one")
            found[kid] = usable
    if not found:
        raise ValueError("it has no key with a `kid` for EdDSA (Ed25519), ES256 or RS256 (2,048 bits or more)")
    return KeySet(found, told.get("development") is True)


def _usable(key: dict[str, Any]) -> VerificationKey | None:
    kind, curve = key.get("kty"), key.get("crv")
    if not (isinstance(kind, str) and isinstance(curve, str | None)):
        return None
    algorithm = ALGORITHMS.get((kind, None if kind == "RSA" else curve))
    if algorithm is None or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
        return None
    if not isinstance(operations := key.get("key_ops", ["verify"]), list) or "verify" not in operations:
        return None
    try:
        public = jwt.PyJWK(key, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if kind == "RSA" and public.key_size < LEAST_RSA_BITS else VerificationKey(public, algorithm)
