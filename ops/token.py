"""`orders token`: make a token of the development key, to try a system that asks for tokens."""

import importlib.util
import os
import shlex
from pathlib import Path
from typing import Final

import rich_click as click

from infra.auth_settings import INSTALL
from infra.settings import Settings, load
from ops.cli import ID, WholeNumber, ending_well
from ops.errors import Unusable
from ops.output import print_out

ISSUER: Final = "development"
AUDIENCE: Final = "orders"
LONGEST_S: Final = 86_400


@click.command("token")
@click.option(
    "--sub", "subject", type=ID, required=True, metavar="ID", help="Who the token is for: a customer, or you."
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="What its owner may do, such as ops:read; may be repeated. docs/security.md has all.",
)
@click.option(
    "--ttl",
    type=WholeNumber(1, LONGEST_S),
    default=3_600,
    show_default=True,
    metavar="SECONDS",
    help="How long it is valid.",
)
@ending_well
def command(*, subject: str, scopes: tuple[str, ...], ttl: int) -> None:
    """Print a token of the development key, which is made in DATA_DIR if there is none.

    It is for this machine alone: a service that listens beyond loopback refuses the key. Services that are started
    with AUTH_KEYS, AUTH_ISSUER and AUTH_AUDIENCE as standard error says ask for such tokens:

    \b
      curl -s localhost:8001/orders -H "Authorization: Bearer $(just token --sub u1)"

    \b
    Exit code: 0 printed; 2 wrong usage, or AUTH_KEYS names other keys
    Settings:  DATA_DIR (.data), AUTH_KEYS, AUTH_ISSUER (development), AUTH_AUDIENCE (orders)
    """
    if any(importlib.util.find_spec(name) is None for name in ("jwt", "cryptography")):
        raise Unusable(f"tokens need PyJWT and cryptography, which are not installed: {INSTALL}")
    from infra.auth.development import development_key, mint  # noqa: PLC0415 - an extra

    if wrong := [
        scope for scope in scopes if len(scope.split()) != 1 or not scope.isascii() or not scope.isprintable()
    ]:
        raise Unusable(f"{wrong[0]!r} is no scope: it is one word")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AUTH_")}
    try:
        key = development_key(load(Settings, "token", 1, env).data_dir)
    except ValueError as error:
        raise Unusable(str(error)) from error
    named = os.environ.get("AUTH_KEYS", "").strip()
    if named and Path(named).resolve() != key.public_keys.resolve():
        raise Unusable(
            f"AUTH_KEYS is {named}, and services with these keys take no token of the development key: get one from "
            f"the issuer, or set AUTH_KEYS={key.public_keys}"
        )
    issuer, audience = (
        os.environ.get(name, "").strip() or usual
        for name, usual in (("AUTH_ISSUER", ISSUER), ("AUTH_AUDIENCE", AUDIENCE))
    )
    claims = {"iss": issuer, "aud": audience, "sub": subject, "scope": " ".join(scopes)}
    print_out(mint(key, claims, ttl))
    if not named:
        told = {"AUTH_KEYS": str(key.public_keys), "AUTH_ISSUER": issuer, "AUTH_AUDIENCE": audience}
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in told.items())
        print_out(f"services take it that were started after: export {words}", error=True, wrap=False)
