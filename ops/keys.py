"""`orders keys`: make what a system on this machine needs to ask for tokens over TLS."""

import importlib.util
import os
import shlex
from pathlib import Path

import rich_click as click

from infra.auth.principal import OPS_READ, OPS_REDRIVE
from infra.auth.token_file import TOKEN_FILE
from infra.auth_settings import INSTALL
from infra.files import write
from infra.settings import Settings, load
from ops.cli import ending_well
from ops.errors import Unusable
from ops.output import print_out
from ops.token import AUDIENCE, ISSUER, LONGEST_S

ENVIRONMENT = "environment"


@click.command("keys")
@ending_well
def command() -> None:
    """Make keys to try a secured system on this machine: one for tokens, and a certificate for TLS.

    They are in the folder `auth` of DATA_DIR, for you alone. A file there, `environment`, has the settings with which
    services ask for tokens, and tools know the services. Another, `operator.token`, has an operator's token for a day:

    \b
      just keys
      . .data/auth/environment
      just up

    Run again, it renews that token and changes nothing else. For other machines use the keys of an issuer, and a
    certificate of an authority that the clients know.

    \b
    Exit code: 0 they are there; 2 wrong usage, or a file cannot be used
    Settings:  DATA_DIR (.data)
    """
    if any(importlib.util.find_spec(name) is None for name in ("jwt", "cryptography")):
        raise Unusable(f"keys need PyJWT and cryptography, which are not installed: {INSTALL}")
    from infra.auth.development import development_certificate, development_key, mint  # noqa: PLC0415 - an extra

    env = {name: value for name, value in os.environ.items() if not name.startswith(("AUTH_", "TLS_"))}
    data_dir = load(Settings, "keys", 1, env).data_dir.absolute()
    try:
        key = development_key(data_dir)
    except ValueError as error:
        raise Unusable(str(error)) from error
    public_keys, token = key.public_keys, key.public_keys.with_name("operator.token")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "operator", "scope": f"{OPS_READ} {OPS_REDRIVE}"}
    write(token, mint(key, claims, LONGEST_S).encode() + b"\n")
    made = development_certificate(data_dir)
    settings: dict[str, Path | str] = {
        "AUTH_KEYS": public_keys,
        "AUTH_ISSUER": ISSUER,
        "AUTH_AUDIENCE": AUDIENCE,
        "TLS_CERT_FILE": made.certificate,
        "TLS_KEY_FILE": made.key,
        "TLS_CA_FILE": made.authority,
        TOKEN_FILE: token,
    }
    lines = [f"export {name}={shlex.quote(str(value))}\n" for name, value in settings.items()]
    environment = public_keys.with_name(ENVIRONMENT)
    write(environment, "".join(lines).encode())
    print_out(f"made in {public_keys.parent}; now: . {shlex.quote(os.path.relpath(environment))}")
