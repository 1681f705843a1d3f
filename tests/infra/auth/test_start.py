"""Which services ask for tokens, and which refuse to start: what is unsafe beyond loopback, and what cannot work."""

import json
from pathlib import Path

import pytest

from infra.auth import keys
from infra.auth.principal import KeysUnavailable
from infra.auth.start import open_verifier
from infra.settings import Settings, SettingsError, load
from tests.issuer import AUDIENCE, NAME, Issuer

ISSUER = Issuer("EdDSA")
RIGHT = {"AUTH_KEYS": "https://issuer.example/jwks.json", "AUTH_ISSUER": NAME, "AUTH_AUDIENCE": AUDIENCE}
BEYOND = {"BIND_HOST": "0.0.0.0", "AUTH_HTTP": "anywhere"}


def settings(**env: str) -> Settings:
    return load(Settings, "test", 1, env)


def test_without_keys_nobody_is_asked() -> None:
    assert open_verifier(settings()) is None
    assert open_verifier(settings(AUTH_ISSUER=NAME)) is None


async def test_a_file_is_read_at_the_start(tmp_path: Path) -> None:
    verifier = open_verifier(settings(**ISSUER.settings(tmp_path / "keys.json")))

    assert verifier is not None
    assert (await verifier.verify(ISSUER.token())).subject == "u1"
    assert verifier.trouble is None


def test_a_url_is_not_asked_at_the_start() -> None:
    assert open_verifier(settings(**RIGHT)) is not None
    assert open_verifier(settings(**RIGHT, **BEYOND)) is not None
    tls = {"TLS_CERT_FILE": "a.pem", "TLS_KEY_FILE": "a.key"}
    assert open_verifier(settings(**RIGHT, **tls, BIND_HOST="0.0.0.0")) is not None
    assert open_verifier(settings(**{**RIGHT, "AUTH_KEYS": "http://127.0.0.1:1/jwks.json"})) is not None


async def test_a_development_key_of_a_url_is_for_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(_: str) -> bytes:
        return json.dumps({**ISSUER.jwks, "development": True}).encode()

    monkeypatch.setattr(keys, "fetch", fetch)
    near, far = open_verifier(settings(**RIGHT)), open_verifier(settings(**RIGHT, **BEYOND))
    assert near is not None
    assert far is not None
    assert (await near.verify(ISSUER.token())).subject == "u1"
    with pytest.raises(KeysUnavailable, match="has a development key"):
        await far.verify(ISSUER.token())


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"BIND_HOST": "0.0.0.0", "AUTH_KEYS": ""}, "or set AUTH_KEYS, AUTH_ISSUER and AUTH_AUDIENCE"),
        ({"BIND_HOST": "0.0.0.0"}, "tokens would come without TLS"),
        ({"AUTH_ISSUER": ""}, "AUTH_ISSUER is not"),
        ({"AUTH_AUDIENCE": " "}, "AUTH_AUDIENCE is not"),
        ({"AUTH_KEYS": "http://issuer.example/jwks.json"}, "use https://"),
        ({"AUTH_KEYS": "ftp://issuer.example/jwks.json"}, "no URL of a JWKS"),
        ({"AUTH_KEYS": "https://"}, "no URL of a JWKS"),
        ({"AUTH_KEYS": "https://user:s3cr3t@issuer.example/"}, "no URL of a JWKS"),
        ({"AUTH_LEEWAY_S": "61"}, "AUTH_LEEWAY_S"),
        ({"AUTH_MAX_LIFETIME_S": "1e9"}, "AUTH_MAX_LIFETIME_S"),
        ({"AUTH_HTTP": "yes"}, "AUTH_HTTP"),
        ({"TLS_CERT_FILE": "a.pem"}, "are set together"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_in_words(changed: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        settings(**{**RIGHT, **changed})
    assert "s3cr3t" not in str(refused.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(SettingsError, match=f"AUTH_KEYS={path} cannot be used: .*No such file"):
        open_verifier(settings(**{**RIGHT, "AUTH_KEYS": str(path)}))
    path.write_text("{}")
    with pytest.raises(SettingsError, match="has no list `keys`"):
        open_verifier(settings(**{**RIGHT, "AUTH_KEYS": str(path)}))


def test_a_development_key_stays_on_loopback(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({**ISSUER.jwks, "development": True}))
    env = {**RIGHT, "AUTH_KEYS": str(path)}

    assert open_verifier(settings(**env)) is not None
    with pytest.raises(SettingsError, match="development key, and BIND_HOST is"):
        open_verifier(settings(**env, **BEYOND))


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(SettingsError, match="`uv sync --inexact --extra auth` installs it"):
        settings(**RIGHT)
