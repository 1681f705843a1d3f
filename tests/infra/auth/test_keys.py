"""Where keys come from: a file that changes, and an issuer that rotates, is away, lies, or is asked too often."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from infra.auth import keys
from infra.auth.key_set import MOST_BYTES, MOST_KEYS, parse_key_set
from infra.auth.keys import ASK_EVERY_S, LOOK_EVERY_S, OLDEST_S, REFRESH_S, FileKeys, UrlKeys
from infra.auth.principal import KeysUnavailable, TokenRefused
from infra.auth.tokens import TokenRules, TokenVerifier
from tests.issuer import AUDIENCE, NAME, Issuer, new_key, public_jwk

ISSUER = Issuer("EdDSA")
NEXT = Issuer("ES256")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Answering:
    """An HTTP server that answers each request with what `answer` returns, and counts them."""

    def __init__(self) -> None:
        self.answer: Callable[[], bytes] = lambda: ok(json.dumps(ISSUER.jwks).encode())
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await self.gate.wait()
        writer.write(self.answer())
        await writer.drain()
        writer.close()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def gzip_bomb() -> bytes:
    """Return an answer of a few kilobytes that would be 8 MiB."""
    packed = gzip.compress(bytes(1 << 23), 9, mtime=0)
    return ok(packed).replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n", 1)


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    answering = Answering()
    server = await asyncio.start_server(answering.serve, "127.0.0.1", 0)
    answering.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"  # type: ignore[attr-defined]
    yield answering
    server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def found(answering: Any, clock: Clock) -> UrlKeys:
    return UrlKeys(answering.url, clock)


async def settled(found: UrlKeys) -> None:
    if found._asking is not None:
        await found._asking


# A file ---------------------------------------------------------------------------------------------------------------


async def test_a_file_that_changes_is_read_again_and_one_that_breaks_is_not(tmp_path: Path, clock: Clock) -> None:
    path = ISSUER.publish(tmp_path / "keys.json")
    found = FileKeys(path, clock)
    assert set((await found.current()).keys) == {"EdDSA"}

    NEXT.publish(path)
    assert set((await found.current()).keys) == {"EdDSA"}  # not looked at yet
    clock.now += LOOK_EVERY_S
    assert set((await found.current()).keys) == {"ES256"}
    assert found.version == 1

    path.unlink()
    clock.now += LOOK_EVERY_S
    assert set((await found.current()).keys) == {"ES256"}
    assert found.trouble is not None
    assert "the old ones are used" in found.trouble

    ISSUER.publish(path)
    clock.now += LOOK_EVERY_S
    assert set((await found.current()).keys) == {"EdDSA"}
    assert found.version == 2


async def test_a_development_key_does_not_come_later(tmp_path: Path, clock: Clock) -> None:
    path = ISSUER.publish(tmp_path / "keys.json")
    found = FileKeys(path, clock)
    path.write_text(json.dumps({**NEXT.jwks, "development": True}))
    clock.now += LOOK_EVERY_S

    assert set((await found.current()).keys) == {"EdDSA"}
    assert "development" in str(found.trouble)


# A URL ----------------------------------------------------------------------------------------------------------------


async def test_many_who_ask_at_once_cause_one_request(found: UrlKeys, answering: Answering) -> None:
    answering.gate.clear()
    asking = [asyncio.create_task(found.current()) for _ in range(50)]
    await asyncio.sleep(0)
    answering.gate.set()

    assert {set(one.keys) == {"EdDSA"} for one in await asyncio.gather(*asking)} == {True}
    assert answering.asked == 1


async def test_old_keys_are_used_while_new_ones_are_fetched(found: UrlKeys, answering: Answering, clock: Clock) -> None:
    await found.current()
    answering.answer = lambda: ok(json.dumps(NEXT.jwks).encode())
    clock.now += REFRESH_S

    assert set((await found.current()).keys) == {"EdDSA"}
    await settled(found)
    assert set((await found.current()).keys) == {"ES256"}
    assert answering.asked == 2


async def test_an_issuer_that_is_away_changes_nothing_for_a_day(
    found: UrlKeys, answering: Answering, clock: Clock
) -> None:
    await found.current()
    answering.answer = lambda: b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n"
    clock.now += OLDEST_S

    assert set((await found.current()).keys) == {"EdDSA"}
    await settled(found)
    assert found.trouble is not None
    assert "it answers 500" in found.trouble

    clock.now += 1
    with pytest.raises(KeysUnavailable, match="is the issuer up"):
        await found.current()


async def test_tokens_with_unknown_keys_are_no_lever(found: UrlKeys, answering: Answering, clock: Clock) -> None:
    verifier = TokenVerifier(found, TokenRules(NAME, AUDIENCE, 30.0, 3_600.0), clock)
    for n in range(200):
        with pytest.raises(TokenRefused):
            await verifier.verify(ISSUER.token(header={"kid": f"k{n}"}))
    assert answering.asked == 1

    clock.now += ASK_EVERY_S
    for n in range(200):
        with pytest.raises(TokenRefused):
            await verifier.verify(ISSUER.token(header={"kid": f"k{n}"}))
    assert answering.asked == 2


async def test_a_token_of_a_key_that_is_new_is_taken_at_once(
    found: UrlKeys, answering: Answering, clock: Clock
) -> None:
    verifier = TokenVerifier(found, TokenRules(NAME, AUDIENCE, 30.0, 3_600.0), clock)
    with pytest.raises(TokenRefused):
        await verifier.verify(NEXT.token(key="ES256"))
    answering.answer = lambda: ok(json.dumps(NEXT.jwks).encode())
    clock.now += ASK_EVERY_S

    # The clock of the test is not the tokens'; what counts here is that the key is found.
    with pytest.raises(TokenRefused) as refused:
        await verifier.verify(NEXT.token(key="ES256", iss="other"))
    assert refused.value.reason == "wrong-issuer"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n", "redirects are not followed"),
        (ok(b" " * (MOST_BYTES + 1)), "more than 65536 bytes"),
        (ok(b"<html>"), "no JSON"),
        (ok(b'{"keys": []}'), "no key with a `kid`"),
        (ok(json.dumps({**ISSUER.jwks, "development": True}).encode()), "has a development key"),
        (gzip_bomb(), r"is encoded \(gzip\)"),
        (b"\x00\x01", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=["redirect", "long", "html", "empty", "development", "bomb", "noise", "nothing"],
)
async def test_what_is_no_jwks_is_none(found: UrlKeys, answering: Any, answer: bytes, why: str) -> None:
    answering.answer = lambda: answer % answering.url.encode() if b"%b" in answer else answer

    with pytest.raises(KeysUnavailable, match=why):
        await found.current()
    assert answering.asked == 1


async def test_a_service_on_loopback_takes_a_development_key_of_a_url(answering: Any, clock: Clock) -> None:
    answering.answer = lambda: ok(json.dumps({**ISSUER.jwks, "development": True}).encode())

    assert (await UrlKeys(answering.url, clock, development=True).current()).development


async def test_an_issuer_that_hangs_is_not_waited_for_longer(
    found: UrlKeys, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "TIMEOUT_S", 0.05)
    answering.gate.clear()

    with pytest.raises(KeysUnavailable, match="TimeoutError"):
        await found.current()
    answering.gate.set()


# The document ---------------------------------------------------------------------------------------------------------


def of(*listed: Any, **more: Any) -> bytes:
    return json.dumps({"keys": listed, **more}).encode()


RSA = new_key("RS256")
GOOD = public_jwk("RS256", RSA, "good")


def test_only_usable_keys_are_taken_each_for_one_algorithm() -> None:
    bare = {name: value for name, value in GOOD.items() if name not in ("alg", "use")} | {"kid": "bare"}
    listed = [
        GOOD,
        bare,
        GOOD | {"kid": "encrypts", "use": "enc"},
        GOOD | {"kid": "other", "alg": "RS512"},
        GOOD | {"kid": "signs", "key_ops": ["sign"]},
        {name: value for name, value in GOOD.items() if name != "kid"},
        GOOD | {"kid": 7},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AA"},
        {"kty": "EC", "crv": "P-521", "kid": "p", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "kid": "off the curve", "x": "AA", "y": "AA"},
        {"kty": ["RSA"], "kid": "list"},
        {"kty": "EC", "crv": ["P-256"], "kid": "list of curves", "x": "AA", "y": "AA"},
        GOOD | {"kid": "other types", "alg": ["RS256"], "use": {}, "key_ops": "verify"},
        GOOD | {"kid": "broken", "n": "!"},
    ]

    found = parse_key_set(of(*listed))

    assert {kid: key.algorithm for kid, key in found.keys.items()} == {"good": "RS256", "bare": "RS256"}
    assert found.development is False


def test_a_short_rsa_key_is_not_used() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    short = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
    assert set(parse_key_set(of(GOOD, public_jwk("RS256", short, "short"))).keys) == {"good"}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "bytes"),
        (b"[" * 50_000, "no JSON"),
        (b"[]", "no list `keys`"),
        (b'{"keys": {}}', "no list `keys`"),
        (of(*[GOOD] * (MOST_KEYS + 1)), "no list `keys` of at most 64"),
        (of(1), "key 1 is no object"),
        (of(GOOD, GOOD), "key 2 has the `kid` of another one"),
        (of(GOOD | {"d": "AA"}), "key 1 has private parts"),
        (of({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}), "no key with a `kid`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the documents have keys of this run
)
def test_a_document_that_cannot_be_used_says_why(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_key_set(document)
