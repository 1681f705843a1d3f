"""A key of one's own for tokens while one develops; services that listen beyond loopback refuse it."""

import json
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import OKPAlgorithm

from infra.files import PRIVATE, make_private_folder, publish, temporary, write

FOLDER: Final = "auth"
"""In DATA_DIR."""
PRIVATE_KEY: Final = "development.pem"
PUBLIC_KEYS: Final = "development.json"
ALGORITHM: Final = "EdDSA"


class DevelopmentKey(NamedTuple):
    """The private key, and the JWKS with its public half, which services read as AUTH_KEYS."""

    private: Ed25519PrivateKey
    kid: str
    public_keys: Path


def development_key(data_dir: Path) -> DevelopmentKey:
    """Return the key in this DATA_DIR; make it if there is none. Raises OSError; ValueError if the file is no key."""
    folder = data_dir / FOLDER
    make_private_folder(folder)
    path = folder / PRIVATE_KEY
    if not path.exists():
        _write_private(path, Ed25519PrivateKey.generate())
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} has no key: remove it, a new one is made then") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{path} has another kind of key: remove it, a new one is made then")  # noqa: TRY004
    public = json.loads(OKPAlgorithm.to_jwk(private.public_key()))
    kid = f"development-{public['x'][:8]}"
    document = {"keys": [{**public, "kid": kid, "alg": ALGORITHM, "use": "sig"}], "development": True}
    public_keys, content = folder / PUBLIC_KEYS, json.dumps(document, indent=2).encode() + b"\n"
    if not public_keys.exists() or public_keys.read_bytes() != content:
        write(public_keys, content)
    return DevelopmentKey(private, kid, public_keys)


def mint(key: DevelopmentKey, claims: Mapping[str, object], lifetime_s: int) -> str:
    """Return a token with these claims that is valid from now for `lifetime_s` seconds."""
    now = int(time())
    return jwt.encode({**claims, "iat": now, "exp": now + lifetime_s}, key.private, ALGORITHM, {"kid": key.kid})


def _write_private(path: Path, key: Ed25519PrivateKey) -> None:
    unfinished = temporary(path)
    unfinished.unlink(missing_ok=True)
    unfinished.touch(PRIVATE, exist_ok=False)
    unfinished.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    publish(path)
