"""`python -m ops.pictures`: draw the README's terminal pictures from real runs, light and dark, in docs/pictures."""

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

from infra import signals
from infra.local.own_system import OwnSystem
from infra.local.services import ROOT
from infra.usage import take_no_arguments

FOLDER: Final = ROOT / "docs" / "pictures"
WIDTH: Final = 104
THEMES: Final = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
FORMAT: Final = re.sub(r"@font-face {{.*?}}\n\n?", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's template without the fonts that it loads from the network: a page must not need the network."""


def in_terminal(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end, its standard output on a terminal of WIDTH columns; return that output.

    The output includes the escape codes. The program's environment is this process's, without NO_COLOR and UV, with
    `env` added, then COLUMNS and TERM set. Raises CalledProcessError if the exit code is not 0.
    """
    keyboard, screen = pty.openpty()
    terminal = {"COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "UV")}
    with subprocess.Popen(command, cwd=ROOT, env={**own, **(env or {}), **terminal}, stdout=screen) as process:
        os.close(screen)
        printed = b""
        with suppress(OSError):  # Linux reports the closed terminal as an error
            while data := os.read(keyboard, 65_536):
                printed += data
        os.close(keyboard)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, printed)
    return printed.decode().replace("\r\n", "\n")


def demo(*options: str) -> str:
    """Run `just demo`, which starts a system of its own, and return its output. Raises CalledProcessError."""
    return in_terminal(sys.executable, "-m", "ops.demo", *options)


def crash() -> str:
    """Run `just demo --crash` in a terminal; return its output with the escape codes. Raises CalledProcessError."""
    return demo("--crash")


def trace() -> str:
    """Start a system of its own, place an order whose coupon is refused, and return the output of `just trace` for it.

    Raises StartFailed, SettingsError, CalledProcessError; the errors of httpx.
    """
    with (
        tempfile.TemporaryDirectory(prefix="saga-pictures-") as folder,
        OwnSystem(Path(folder), ORDER_WAIT_S="10") as system,
    ):
        mug = {"product_id": "mug", "name": "Mug", "price": 12_000, "stock": 10}
        _post(f"{system.url('product')}/products", mug)
        _post(f"{system.url('point')}/points/u1/charge", {"amount": 5_000}, {"Idempotency-Key": "transfer-1"})
        order = {"lines": [{"product_id": "mug", "quantity": 1}], "points": 500, "coupon_id": "no-such-coupon"}
        customer = {"X-User-Id": "u1", "Idempotency-Key": "basket-17"}
        order_id = _post(f"{system.url('order')}/orders", order, customer)["order_id"]
        system.stop_services()  # each publishes everything that it has recorded, so the trace is complete
        return in_terminal(sys.executable, "-m", "ops.orders", "trace", order_id, env=system.env)


def _post(url: str, body: object, headers: Mapping[str, str] | None = None) -> Any:
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False).json()


def drawn(title: str, printed: str, theme: str) -> str:
    """Draw `printed`, a program's output with its escape codes, as a terminal; return the SVG.

    `theme` is `light` or `dark`. The last word of `title`, without its dashes, and the theme name the SVG's styles, so
    the two together must be unique in a page.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(printed.strip("\n")), no_wrap=True, crop=False)
    name = f"{title.rsplit(maxsplit=1)[-1].lstrip('-')}-{theme}"
    svg = console.export_svg(title=title, theme=THEMES[theme], code_format=FORMAT, unique_id=name)
    return svg.replace("rgba(255,255,255,0.35)", "rgba(128,128,128,0.5)")  # a frame that shows on white, too


PICTURES: Final = {"crash": ("just demo --crash", crash), "demo": ("just demo", demo), "trace": ("just trace", trace)}
"""The name of each picture's files → the command that is its title, and how it is run."""


def main() -> None:
    take_no_arguments(str(__doc__))
    signals.release()
    FOLDER.mkdir(exist_ok=True)
    for name, (title, run) in PICTURES.items():
        printed = run()
        for theme in THEMES:
            (FOLDER / f"{name}-{theme}.svg").write_text(drawn(title, printed, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
