"""The development key: private, made once, and its tokens are taken by a service that has its public half."""

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from infra.auth.development import development_key, mint
from infra.auth.keys import FileKeys
from infra.auth.tokens import TokenRules, TokenVerifier


async def test_its_tokens_are_taken_and_it_is_made_once(tmp_path: Path) -> None:
    key = development_key(tmp_path)
    again = development_key(tmp_path)
    keys = FileKeys(key.public_keys)
    verifier = TokenVerifier(keys, TokenRules("me", "shop", 0.0, 60.0))

    caller = await verifier.verify(mint(again, {"iss": "me", "aud": "shop", "sub": "u1", "scope": "ops:read"}, 60))

    assert (caller.subject, caller.scopes, keys.development) == ("u1", frozenset({"ops:read"}), True)


def test_its_private_half_is_for_its_owner_and_in_no_other_file(tmp_path: Path) -> None:
    key = development_key(tmp_path)
    path = tmp_path / "auth" / "development.pem"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {file.name for file in path.parent.iterdir()} == {path.name, key.public_keys.name}
    assert {"d"} & json.loads(key.public_keys.read_bytes())["keys"][0].keys() == set()


def test_a_file_that_was_lost_is_made_again_from_the_other(tmp_path: Path) -> None:
    key = development_key(tmp_path)
    before = key.public_keys.read_bytes()
    key.public_keys.unlink()

    assert development_key(tmp_path).public_keys.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no key", b"another kind"])
def test_a_file_that_is_no_such_key_is_named(tmp_path: Path, content: bytes) -> None:
    development_key(tmp_path)
    if content == b"another kind":
        other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        content = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "auth" / "development.pem").write_bytes(content)

    with pytest.raises(ValueError, match=r"development\.pem"):
        development_key(tmp_path)
