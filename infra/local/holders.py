"""Names the process that runs a service of this machine, by what it answers or by the lock of its folder."""

from collections.abc import Mapping

from infra.files import lock_holder
from infra.local.ports import is_taken
from infra.local.readiness import process_at
from infra.local.services import service_address, service_folder, service_url


def folder_holder(name: str, env: Mapping[str, str]) -> int | None:
    """Return the id of the process that works on this service's folder.

    None: none does, the lock names none, or it cannot be read. Makes and changes no file. Raises SettingsError.
    """
    try:
        holder = lock_holder(service_folder(name, env) / "lock")
    except OSError:
        return None
    number = (holder or "").removeprefix("process ")
    return int(number) if number.isdecimal() else None


def port_holder(name: str, env: Mapping[str, str]) -> str | None:
    """Return in words who has this service's port, and how to end that program; None: nobody has the port.

    The process named is the one that answers there as a ready service does, or else works on the service's folder.
    Blocks. Raises SettingsError.
    """
    host, port = service_address(name, env)
    if not is_taken(host, port):
        return None
    pid = process_at(service_url(name, env)) or folder_holder(name, env)
    if pid is None:
        return f"another program has port {port} of {name}_svc: stop it"
    return f"process {pid} runs {name}_svc, which was started by hand: `kill -TERM {pid}`"
