"""`just token`, and the commands of operators on a system that asks for tokens."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner

from ops.orders import orders as program
from tests.ops.asking import orders, told
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


def token(folder: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    done = CliRunner(env={"DATA_DIR": str(folder), **env}).invoke(program, ["token", *arguments], prog_name="just")
    return done.exit_code, done.stdout.strip(), done.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop that takes tokens of its development key, as `just token` says."""
    folder = tmp_path_factory.mktemp("secured")
    _, _, said = token(folder, "--sub", "u1")
    named: dict[str, Any] = dict(pair.split("=", 1) for pair in said.strip().partition("export ")[2].split())
    assert named.keys() == {"AUTH_KEYS", "AUTH_ISSUER", "AUTH_AUDIENCE"}
    async with open_shop(folder, **named) as shop:
        yield shop


def file_for(shop: Shop, name: str, *scopes: str) -> Path:
    arguments = [word for scope in scopes for word in ("--scope", scope)]
    code, made, _ = token(shop.folder, "--sub", name, *arguments, AUTH_KEYS=shop.env["AUTH_KEYS"])
    assert code == 0
    path = shop.folder / f"{name}.token"
    path.write_text(made)
    return path


async def test_an_order_with_a_token_of_the_development_key(secured: Shop) -> None:
    merchant = file_for(secured, "merchant", "products:write")
    headers = {"Authorization": f"Bearer {merchant.read_text()}"}
    body = {"product_id": "mug", "name": "Mug", "price": 100, "stock": 10}
    made = await secured.http.post(secured.url("product", "/products"), json=body, headers=headers)
    assert made.status_code == 201

    placed = await orders(secured, "place", "--user", "u1", "mug", OPERATOR_TOKEN_FILE=str(file_for(secured, "u1")))

    assert (placed.returncode, placed.stderr) == (0, "")
    assert placed.stdout.startswith("200 CONFIRMED")


async def test_an_order_is_not_placed_for_somebody_else_than_said(secured: Shop) -> None:
    placed = await orders(secured, "place", "--user", "u2", "mug", OPERATOR_TOKEN_FILE=str(file_for(secured, "u1")))

    assert (placed.returncode, placed.stdout) == (2, "")
    assert "is u1's, so the order would be, too" in placed.stderr


async def test_without_a_token_a_command_says_which_setting_names_one(secured: Shop) -> None:
    placed = await orders(secured, "place", "--user", "u1", "mug")

    assert placed.returncode == 1
    assert "401 REFUSED: unauthorized" in placed.stdout
    assert "OPERATOR_TOKEN_FILE" in placed.stdout + placed.stderr

    status = await orders(secured, "status")
    assert status.returncode != 0
    assert "OPERATOR_TOKEN_FILE" in status.stdout + status.stderr

    missing = await orders(secured, "status", OPERATOR_TOKEN_FILE=str(secured.folder / "none"))
    assert (missing.returncode, "OPERATOR_TOKEN_FILE" in missing.stderr) == (2, True)


async def test_operators_commands_work_with_a_token(secured: Shop) -> None:
    operator = file_for(secured, "operator", "ops:read")

    status = await told(secured, "status", OPERATOR_TOKEN_FILE=str(operator))

    assert "order_svc" in str(status)
    assert "403" not in str(status)


async def test_the_audit_compares_what_services_answer_to_an_operator(secured: Shop) -> None:
    await secured.until_quiet()
    audited = await orders(secured, "audit", OPERATOR_TOKEN_FILE=str(file_for(secured, "operator", "ops:read")))

    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert "answers compared" in audited.stdout


async def test_a_token_without_the_scope_is_told_so(secured: Shop) -> None:
    status = await orders(secured, "status", OPERATOR_TOKEN_FILE=str(file_for(secured, "nobody")))

    assert status.returncode != 0
    assert "ops:read" in status.stdout + status.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--sub"),
        (["--sub", "a b"], "--sub"),
        (["--sub", "u1", "--scope", "a b"], "no scope"),
        (["--sub", "u1", "--scope", ""], "no scope"),
        (["--sub", "u1", "--scope", "é"], "no scope"),
        (["--sub", "u1", "--ttl", "0"], "--ttl"),
        (["--sub", "u1", "--ttl", "86401"], "--ttl"),
    ],
    ids=str,
)
async def test_wrong_arguments_change_nothing(tmp_path: Path, arguments: list[str], why: str) -> None:
    code, made, said = token(tmp_path / "data", *arguments)

    assert (code, made) == (2, "")
    assert why in said
    assert not (tmp_path / "data").exists()


async def test_a_token_that_no_service_would_take_is_not_made(tmp_path: Path) -> None:
    code, made, said = token(tmp_path, "--sub", "u1", AUTH_KEYS="https://issuer.example/jwks.json")

    assert (code, made) == (2, "")
    assert "get one from the issuer" in said


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("in the way")

    code, _, said = token(tmp_path, "--sub", "u1")

    assert code == 2
    assert os.fspath(tmp_path / "auth") in said
