"""Tools send the token of a file, which is read each time."""

from pathlib import Path

import httpx
import pytest

from infra.auth.token_file import TOKEN_FILE, token_file


def sent(auth: httpx.Auth) -> str:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.headers.get("Authorization", "none"))

    with httpx.Client(transport=httpx.MockTransport(answer), auth=auth) as http:
        return http.get("http://localhost").text


def test_a_token_that_is_renewed_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    auth = token_file({TOKEN_FILE: f" {path} "})
    assert auth is not None

    path.write_text("a.b.c\n")
    assert sent(auth) == "Bearer a.b.c"
    path.write_text("d.e.f")
    assert sent(auth) == "Bearer d.e.f"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"a b", b"\xff", b"a" * 9_000 + b" b"])
def test_a_file_without_a_token_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    auth = token_file({TOKEN_FILE: str(path)})
    assert auth is not None

    with pytest.raises(ValueError, match=f"{TOKEN_FILE}={path}"):
        auth.token()
    assert sent(auth) == "none"


@pytest.mark.parametrize(
    ("token", "subject"),
    [("a.eyJzdWIiOiJ1MSJ9.c", "u1"), ("a.b.c", None), ("abc", None), ("a.eyJzdWIiOjF9.c", None), ("a.bnVsbA.c", None)],
)
def test_whom_a_token_names(tmp_path: Path, token: str, subject: str | None) -> None:
    path = tmp_path / "token"
    path.write_text(token)
    auth = token_file({TOKEN_FILE: str(path)})

    assert auth is not None
    assert auth.subject() == subject


def test_without_the_variable_nothing_is_sent() -> None:
    assert token_file({}) is None
    assert token_file({TOKEN_FILE: "  "}) is None
