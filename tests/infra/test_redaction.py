"""No secret reaches a log line: not in a URL, not in a header, not in a field that names it."""

import pytest

from infra.redaction import redacted, secrets_in


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to nats://ann:s3cr3t@127.0.0.1:4222",
        "tls://s3cr3t@broker.example:4222 refused",
        "nats://a:s3cr3t@one,nats://b:s3cr3t@two",
        "nats://ann:p@s3cr3t@127.0.0.1",
        "Authorization: Bearer s3cr3t",
        "{'authorization': 'Basic s3cr3t'}",
        'CONNECT {"user":"ann","pass":"s3cr3t","lang":"python"}',
        '{"auth_token": "s3cr3t"}',
        "password=s3cr3t",
        "db_password=s3cr3t",
        "{'client-secret': 's3cr3t'}",
        '"refresh_token": "s3cr3t"',
        "sent Bearer s3cr3t.abcdef",
        "Cookie: session=s3cr3t",
        "Cookie: a=b; session=s3cr3t",
        "{'cookie': 'a=b; session=s3cr3t', 'host': 'x'}",
        "Set-Cookie: session=s3cr3t; Secure",
        "Authorization: Negotiate s3cr3t",
        'Authorization: Digest username="ann", response="s3cr3t"',
        "Proxy-Authorization: AWS4-HMAC-SHA256 Credential=x, Signature=s3cr3t",
        "nats://ann:it's3cr3t@one:4222",
        "X-Api-Key: s3cr3t",
        "{'api-key': 's3cr3t'}",
        '{"password":"a\\"s3cr3t"}',
        "{'cookie': 'a\\'s3cr3t'}",
    ],
)
def test_a_secret_is_hidden(text: str) -> None:
    assert "s3cr3t" not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "nats://127.0.0.1:4222",
        "http://127.0.0.1:8001/orders?at=now",
        "order 7 of ann@example.com passed",
        "the token is missing",
        "compass=north bypass: no",
        "Bearer of bad news",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_known_secrets_are_hidden_wherever_they_stand() -> None:
    secrets = secrets_in(["nats://ann:p%40ss-word@one:4222", "nats://t0ken@two", "nats://three", "http://[bad"])

    assert secrets == ["p%40ss-word", "p@ss-word", "t0ken"]
    assert redacted("refused p@ss-word (t0ken)", secrets) == "refused *** (***)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a service answers again since 12:03:01 at 127.0.0.1", "a service answers again since 12:03:01 at 127.0.0.1"),
        ("refused nats://ann:a@one with 'a', given=1, \"1\"", "refused nats://***@one with '***', given=***, \"***\""),
        ("password=a user=ann", "password=*** user=ann"),
    ],
)
def test_a_short_secret_is_hidden_only_where_it_is_a_whole_value(text: str, shown: str) -> None:
    assert redacted(text, ["a", "1"]) == shown


def test_a_url_without_a_scheme_has_secrets_too() -> None:
    assert secrets_in(["ann:pass-word@one:4222", " t0ken@two", "three:4222", ""]) == ["pass-word", "t0ken"]


def test_a_long_word_takes_time_in_proportion_to_its_length() -> None:
    """Anything else would not end within the tests' own limit."""
    assert redacted("a-_" * 200_000 + "=") == "a-_" * 200_000 + "="
