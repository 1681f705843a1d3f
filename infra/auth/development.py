"""Keys of one's own while one develops: for tokens, and a certificate for TLS on this machine.

Services that listen beyond loopback refuse the key of tokens.
"""

import ipaddress
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from jwt.algorithms import OKPAlgorithm

from infra.files import PRIVATE, make_private_folder, publish, temporary, write
from infra.timestamps import now

FOLDER: Final = "auth"
"""In DATA_DIR."""
PRIVATE_KEY: Final = "development.pem"
PUBLIC_KEYS: Final = "development.json"
ALGORITHM: Final = "EdDSA"
VALID_DAYS: Final = 365
KEY_USAGES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


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
    issued = int(time())
    return jwt.encode({**claims, "iat": issued, "exp": issued + lifetime_s}, key.private, ALGORITHM, {"kid": key.kid})


class DevelopmentCertificate(NamedTuple):
    """Where the certificate of a service, its key, and the authority that signed it are."""

    certificate: Path
    key: Path
    authority: Path


def development_certificate(data_dir: Path) -> DevelopmentCertificate:
    """Return a certificate for the names of loopback, by an authority of its own; make it if there is none.

    The authority's key is not kept: it signs this certificate alone. Raises OSError.
    """
    folder = data_dir / FOLDER
    make_private_folder(folder)
    made = DevelopmentCertificate(*(folder / name for name in ("tls.pem", "tls.key", "tls-authority.pem")))
    if not all(path.exists() for path in made):
        signer, key = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("development authority", signer.public_key(), signer, is_authority=True)
        own = _certificate("development", key.public_key(), signer)
        _write_private(made.key, key)
        write(made.certificate, own.public_bytes(Encoding.PEM))
        write(made.authority, authority.public_bytes(Encoding.PEM))
    return made


def _certificate(name: str, key: Any, signer: Ed25519PrivateKey, *, is_authority: bool = False) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    usage = dict.fromkeys(KEY_USAGES, False) | {"key_cert_sign" if is_authority else "digital_signature": True}
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("development authority"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(issuer_id, critical=False)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(signer, None)
    )


def _write_private(path: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    unfinished = temporary(path)
    unfinished.unlink(missing_ok=True)
    unfinished.touch(PRIVATE, exist_ok=False)
    unfinished.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    publish(path)
