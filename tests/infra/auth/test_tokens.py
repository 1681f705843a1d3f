"""A token is taken if all of it is right, and refused if one thing is wrong; a refusal tells nothing of the token."""

from pathlib import Path
from time import time
from typing import Any, NamedTuple

import jwt
import pytest

from infra.auth import tokens
from infra.auth.keys import FileKeys
from infra.auth.principal import Principal, TokenRefused
from infra.auth.tokens import LONGEST, TokenRules, TokenVerifier
from tests.issuer import AUDIENCE, NAME, Issuer, new_key, unsigned

ISSUER = Issuer()
OTHER = Issuer()
RULES = TokenRules(NAME, AUDIENCE, 30.0, 3_600.0)


def named(value: Any) -> str:
    """A name for a parameter that is the same in each run: what a change has is of this one."""
    return value if isinstance(value, str) else next(iter(value))


class in_s(NamedTuple):  # noqa: N801 - reads as a time
    """A time that is so many seconds away when the test runs."""

    seconds: int


FAR = 1 << 40


def as_of_now(changed: dict[str, Any]) -> dict[str, Any]:
    return {name: int(time()) + value.seconds if isinstance(value, in_s) else value for name, value in changed.items()}


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return ISSUER.publish(tmp_path / "keys.json")


@pytest.fixture
def verifier(path: Path, clock: Clock) -> TokenVerifier:
    return TokenVerifier(FileKeys(path, clock), RULES, clock)


async def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(TokenRefused) as refused:
        await verifier.verify(token)
    assert verifier.known(token) is None
    assert not any(part and part in str(refused.value) for part in token.split("."))
    return refused.value.reason


@pytest.mark.parametrize("key", ["EdDSA", "ES256", "RS256"])
async def test_a_right_token_names_its_caller_and_is_known_from_then_on(verifier: TokenVerifier, key: str) -> None:
    expires = int(time()) + 300
    token = ISSUER.token("ops:read", "ops:redrive", key=key, sub="ann", exp=expires)
    assert verifier.known(token) is None

    caller = await verifier.verify(token)

    assert caller == Principal("ann", frozenset({"ops:read", "ops:redrive"}), expires)
    assert verifier.known(token) == caller


@pytest.mark.parametrize(
    "changed",
    [{"aud": ["other", AUDIENCE]}, {"nbf": in_s(-5)}, {"iat": None}, {"iat": in_s(20)}, {"scope": ""}],
    ids=lambda changed: next(iter(changed)),
)
async def test_other_right_claims(verifier: TokenVerifier, changed: dict[str, Any]) -> None:
    assert (await verifier.verify(ISSUER.token(**as_of_now(changed)))).subject == "u1"


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+JWT"])
async def test_types_of_tokens(verifier: TokenVerifier, kind: str) -> None:
    assert (await verifier.verify(ISSUER.token(header={"typ": kind}))).subject == "u1"


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("expired", {"exp": in_s(-60)}),
        ("not-yet-valid", {"nbf": in_s(300)}),
        ("not-yet-valid", {"iat": in_s(300)}),
        ("wrong-issuer", {"iss": "https://other.example"}),
        ("wrong-issuer", {"iss": NAME + "/"}),
        ("wrong-audience", {"aud": "other"}),
        ("wrong-audience", {"aud": [AUDIENCE.upper()]}),
        ("claim-missing", {"exp": None}),
        ("claim-missing", {"iss": None}),
        ("claim-missing", {"aud": None}),
        ("claim-missing", {"sub": None}),
        ("lives-too-long", {"exp": in_s(7_200)}),
        ("lives-too-long", {"exp": in_s(7_200), "iat": None}),
        ("lives-too-long", {"exp": 1 << 52}),
        ("claim-invalid", {"sub": "a b"}),
        ("claim-invalid", {"sub": ""}),
        ("claim-invalid", {"sub": "x" * 65}),
        ("claim-invalid", {"sub": "u1\n"}),
        ("claim-invalid", {"sub": 7}),
        ("claim-invalid", {"scope": ["ops:read"]}),
        ("claim-invalid", {"scope": 1}),
        ("expired", {"exp": True}),
        ("malformed", {"exp": "soon"}),
        ("malformed", {"exp": [1]}),
        ("claim-invalid", {"exp": 1e300}),
        ("claim-invalid", {"exp": str(FAR)}),
        ("claim-invalid", {"iat": "now"}),
        ("malformed", {"nbf": "now"}),
    ],
    ids=named,
)
async def test_one_wrong_claim(verifier: TokenVerifier, reason: str, changed: dict[str, Any]) -> None:
    assert await refusal(verifier, ISSUER.token(**as_of_now(changed))) == reason


@pytest.mark.parametrize(
    ("reason", "header"),
    [
        ("malformed", {"crit": ["exp"]}),
        ("header-not-allowed", {"jku": "https://other.example/keys"}),
        ("header-not-allowed", {"x5u": "https://other.example/keys"}),
        ("header-not-allowed", {"x5c": ["MIIB"]}),
        ("header-not-allowed", {"jwk": OTHER.jwks["keys"][0]}),
        ("header-not-allowed", {"zip": "DEF"}),
        ("header-not-allowed", {"typ": "id+jwt"}),
        ("header-not-allowed", {"typ": 7}),
        ("unknown-key", {"kid": "other"}),
        ("unknown-key", {"kid": ""}),
        ("unknown-key", {"kid": "../../keys.json"}),
        ("wrong-algorithm", {"kid": "ES256"}),
        ("wrong-algorithm", {"kid": "RS256"}),
    ],
    ids=named,
)
async def test_one_wrong_header(verifier: TokenVerifier, reason: str, header: dict[str, Any]) -> None:
    assert await refusal(verifier, ISSUER.token(header=header)) == reason


async def test_no_key_named(verifier: TokenVerifier) -> None:
    token = jwt.encode(ISSUER.claims(), ISSUER.keys["EdDSA"], "EdDSA")

    assert await refusal(verifier, token) == "unknown-key"


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
async def test_another_algorithm_of_the_same_key(verifier: TokenVerifier, algorithm: str) -> None:
    token = jwt.encode(ISSUER.claims(), ISSUER.keys["RS256"], algorithm, {"kid": "RS256"})

    assert await refusal(verifier, token) == "wrong-algorithm"


async def test_no_signature_and_a_public_key_as_the_secret(verifier: TokenVerifier) -> None:
    assert await refusal(verifier, ISSUER.unsigned()) == "wrong-algorithm"
    assert await refusal(verifier, ISSUER.by_public_key()) == "wrong-algorithm"
    assert await refusal(verifier, unsigned({"alg": "EdDSA", "kid": "EdDSA"}, ISSUER.claims())) == "wrong-signature"


@pytest.mark.parametrize("key", ["EdDSA", "ES256", "RS256"])
async def test_another_issuers_signature_and_a_changed_token(verifier: TokenVerifier, key: str) -> None:
    assert await refusal(verifier, OTHER.token(key=key)) == "wrong-signature"
    head, _, signature = ISSUER.token(key=key).split(".")
    _, claims, _ = ISSUER.token(key=key, sub="u2").split(".")
    assert await refusal(verifier, f"{head}.{claims}.{signature}") == "wrong-signature"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a" * 100,
        "é.é.é",
        "\ud800",
        "e30.e30.e30",
        "bnVsbA.bnVsbA.",
        "W10.e30.",
        "e30.e30.e30.e30.e30",
    ],
    ids=ascii,
)
async def test_what_is_no_token(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        await verifier.verify(token)

    assert refused.value.reason in ("malformed", "unknown-key")


async def test_a_deep_token_and_a_long_one(verifier: TokenVerifier) -> None:
    deep = unsigned({"alg": "EdDSA", "kid": "EdDSA", "typ": "JWT"}, {"sub": "u1"})
    assert await refusal(verifier, ISSUER.token(more="x" * LONGEST)) == "too-large"
    assert await refusal(verifier, deep) in ("malformed", "wrong-signature")
    assert verifier.known("x" * (LONGEST + 1)) is None


async def test_a_known_token_ends_at_its_exp(verifier: TokenVerifier, clock: Clock) -> None:
    token = ISSUER.token(exp=int(time()) + 300)
    caller = await verifier.verify(token)
    assert verifier.known(token) == caller

    clock.ahead_s = 301

    assert verifier.known(token) is None


async def test_the_tokens_of_a_key_that_was_taken_away_are_refused_within_a_second(
    verifier: TokenVerifier, path: Path, clock: Clock
) -> None:
    token, kept = ISSUER.token(key="RS256"), ISSUER.token(key="ES256")
    await verifier.verify(token)
    await verifier.verify(kept)
    less = Issuer("EdDSA")
    less.keys = {kid: key for kid, key in ISSUER.keys.items() if kid != "RS256"}
    less.publish(path)
    clock.ahead_s = 1.0

    assert verifier.known(token) is None
    assert await refusal(verifier, token) == "unknown-key"
    assert (await verifier.verify(kept)).subject == "u1"


async def test_a_new_key_counts_at_once(verifier: TokenVerifier, path: Path, clock: Clock) -> None:
    new = Issuer("ES256")
    new.keys = {**ISSUER.keys, "ES256": new_key("ES256")}
    new.publish(path)
    clock.ahead_s = 1.0

    assert (await verifier.verify(new.token(key="ES256"))).subject == "u1"


async def test_no_more_tokens_are_kept_than_said(verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_KNOWN", 2)
    three = [ISSUER.token(sub=f"u{n}") for n in range(3)]

    for token in three:
        await verifier.verify(token)

    assert [verifier.known(token) is None for token in three] == [True, False, False]
