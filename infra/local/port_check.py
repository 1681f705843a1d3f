"""Looks, before a system starts, whether the ports of its broker, its services and its dashboard are in use."""

import errno
from collections.abc import Mapping

from infra.local.dashboard import dashboard_settings
from infra.local.nats import nats_environment, store_folder, store_holder
from infra.local.ports import is_taken, why_not_free
from infra.local.processes import StartFailed
from infra.local.services import service_names, service_port, service_url
from infra.local.settings import check_system


def check_free_ports(env: Mapping[str, str]) -> None:
    """Raise StartFailed if the port of a service, of the dashboard, or (without NATS_URL) of the broker is in use.

    Without NATS_URL also raises it if the system refuses the broker's port for another reason. Raises SettingsError as
    `check_system`, and for an invalid setting of the bundled broker with NATS_URL, too.
    """
    settings = check_system(env)
    port = int(nats_environment(env)["NATS_PORT"])
    if not settings.nats_url and (refused := why_not_free(port)) is not None:
        if (holder := store_holder(env)) is not None:
            raise StartFailed(
                f"the system of this folder is running already: its broker is {holder}, on port {port}, with the data "
                f"in {store_folder(env)}. Ctrl-C in its terminal stops it; `ps -ef` shows its processes."
            )
        in_use = refused.errno == errno.EADDRINUSE
        why = "is in use" if in_use else f"cannot be used: {refused.strerror or refused}"
        raise StartFailed(
            f"port {port} for the broker {why}. Choose another with NATS_PORT, "
            "or use a running broker with NATS_URL, for example NATS_URL=nats://127.0.0.1:4222."
        )
    dashboard = dashboard_settings(env)
    if is_taken(settings.bind_host, dashboard.port):
        raise StartFailed(
            f"somebody listens already on port {dashboard.port}, which is for the dashboard; choose another with "
            "DASHBOARD_PORT"
        )
    ports = {name: service_port(name, env) for name in service_names()}
    if taken := [name for name, port in ports.items() if is_taken(settings.bind_host, port)]:
        listed = ", ".join(f"{ports[name]} for {name}_svc ({f'{name}_port'.upper()})" for name in taken)
        raise StartFailed(
            f"somebody listens already on port {listed}: this system, if it is running, or another one. `curl "
            f"{service_url(taken[0], env)}/readyz` shows whether a service answers. Stop what listens there, or choose "
            "other ports with the variables in brackets."
        )
