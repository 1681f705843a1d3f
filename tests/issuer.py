"""An issuer of tokens for tests: its keys of all algorithms, its JWKS, and right tokens and wrong ones."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NAME: Final = "https://issuer.example"
AUDIENCE: Final = "shop"

TO_JWK: Final[Mapping[str, Any]] = {
    "EdDSA": OKPAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "RS256": RSAAlgorithm.to_jwk,
}


def new_key(algorithm: str) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def public_jwk(algorithm: str, key: Any, kid: str, **more: Any) -> dict[str, Any]:
    return {**json.loads(TO_JWK[algorithm](key.public_key())), "kid": kid, "alg": algorithm, "use": "sig", **more}


class Issuer:
    """Signs tokens; its keys are called by their algorithms."""

    def __init__(self, *algorithms: str) -> None:
        self.keys = {algorithm: new_key(algorithm) for algorithm in algorithms or ("EdDSA", "ES256", "RS256")}

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(algorithm, key, algorithm) for algorithm, key in self.keys.items()]}

    def publish(self, path: Path) -> Path:
        path.write_text(json.dumps(self.jwks))
        return path

    def settings(self, path: Path) -> dict[str, Any]:
        """The environment of a service that takes this issuer's tokens; `path`: where its JWKS is written."""
        return {"AUTH_KEYS": str(self.publish(path)), "AUTH_ISSUER": NAME, "AUTH_AUDIENCE": AUDIENCE}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Right claims, with these changes; a change to None leaves the claim out."""
        now = int(time())
        claims = {"iss": NAME, "aud": AUDIENCE, "sub": "u1", "iat": now, "exp": now + 600, **changed}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *scopes: str, key: str = "EdDSA", header: Mapping[str, Any] | None = None, **changed: Any) -> str:
        claims = self.claims(**({"scope": " ".join(scopes)} | changed if scopes else changed))
        return jwt.encode(claims, self.keys[key], key, headers={"kid": key, **(header or {})})

    def unsigned(self, **changed: Any) -> str:
        """A token with `alg` none."""
        return unsigned({"alg": "none", "typ": "JWT", "kid": "EdDSA"}, self.claims(**changed))

    def by_public_key(self, **changed: Any) -> str:
        """A token signed by HMAC with the public key as the shared secret."""
        public = self.keys["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = unsigned({"alg": "HS256", "typ": "JWT", "kid": "RS256"}, self.claims(**changed)).rstrip(".")
        return f"{signed}.{_text(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return ".".join([*(_text(json.dumps(part).encode()) for part in (header, claims)), ""])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
