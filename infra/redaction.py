"""Takes secrets out of text that people or log stores will read: passwords in URLs, tokens, authorization headers."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

HIDDEN: Final = "***"
SHORT: Final = 4

_IN_URLS: Final = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^/\s\"<>]*@")
_NAMED: Final = re.compile(
    r"""(?isx)
    ( (?<![A-Za-z0-9])
      (?: (?:auth_?|access_?)?token | password | passwd | pass | secret | api[_-]?key | jwt | nkey | seed | sig ) )
    ( ["']? \s* [:=] \s* )
    (?: "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | [^\s,;&}'"]+ )
    """
)
_HEADERS: Final = re.compile(
    r"""(?isx)
    ( (?<![A-Za-z0-9]) (?: (?:proxy-)?authorization | (?:set-)?cookie ) )
    ( ["']? \s* [:=] \s* )
    (?: "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | [^\r\n]+ )
    """
)
"""Headers whose value goes on to the end of its line: several cookies, or a scheme with parameters."""
_BEARER: Final = re.compile(r"(?i)\b(bearer)\s+(?=\S*\d)[A-Za-z0-9._~+/=-]{8,}")


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text with HIDDEN in place of these `secrets`, the userinfo of URLs, and bearer tokens.

    HIDDEN also replaces the value of a field whose name `names_secret` accepts, such as `password=...` or `token: ...`.
    An unquoted value of a header such as `Cookie` or `Authorization` reaches to the end of its line. A secret of fewer
    than SHORT characters may be a part of any word: it is hidden only as a whole value after `=` or a quotation mark. A
    bearer token is what follows `Bearer`, if it has 8 characters or more and a digit among them.
    """
    for secret in secrets:
        if len(secret) >= SHORT:
            text = text.replace(secret, HIDDEN)
        elif secret in text:
            text = re.sub(rf"(?<=[='\"]){re.escape(secret)}(?=[\s,;&'\"]|$)", HIDDEN, text)
    if "@" in text:
        text = _IN_URLS.sub(rf"\1{HIDDEN}@", text)
    if ":" in text or "=" in text:
        text = _NAMED.sub(rf"\1\2{HIDDEN}", _HEADERS.sub(rf"\1\2{HIDDEN}", text))
    return _BEARER.sub(rf"\1 {HIDDEN}", text)


def names_secret(field: str) -> bool:
    """Return whether this name ends in a word for a secret, such as `password`, `db_password` or `Cookie`.

    The word begins the name, or comes after a character that is not alphanumeric: `dbpassword` names none.
    """
    return any(pattern.search(f"{field}=x") for pattern in (_NAMED, _HEADERS))


def secrets_in(urls: Iterable[str]) -> list[str]:
    """Return the passwords of these URLs, and the user names of those without a password, which are tokens.

    Each is there as written and percent-decoded, without repeats, the longest first. A URL may lack its scheme, as a
    broker's may; a URL that cannot be parsed is left out.
    """
    found: set[str] = set()
    for url in map(str.strip, urls):
        try:
            parts = urlsplit(url if "://" in url else f"//{url}")
        except ValueError:
            continue
        secret = parts.username if parts.password is None else parts.password
        found |= {text for text in (secret, unquote(secret or "")) if text}
    return sorted(found, key=len, reverse=True)
