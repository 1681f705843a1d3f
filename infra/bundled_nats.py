"""`python -m infra.bundled_nats`: the bundled nats-server in place of this process, set up as nats.conf needs it."""

import os
import sys

from infra import local
from infra.scheduling import prefer_batches
from infra.settings import Settings, SettingsError, load


def main() -> None:
    try:
        load(Settings, "nats", 4_222, os.environ)
        command = local.nats_command()
    except (SettingsError, local.StartFailed) as error:
        sys.stderr.write(f"nats-server cannot start: {error}\n")
        raise SystemExit(2) from None
    prefer_batches()
    os.execve(command[0], command, local.nats_environment(os.environ))  # noqa: S606 - the signals are its own from here on


if __name__ == "__main__":
    main()
