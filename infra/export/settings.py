"""The settings of an export, from its environment."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import httpx
from msgspec import Meta, Struct

from infra.addresses import is_loopback
from infra.settings import Seconds

Wait = Annotated[float, Meta(gt=0, le=3_600)]


class ExportSettings(Struct, frozen=True, kw_only=True):
    """The settings of an export. `infra.settings.read` takes a field from the variable of the same name in capitals.

    `_s` ends the names of times in seconds. The constructor reads no variable. It raises ValueError if a URL cannot be
    used, or `export_sink` is http without `export_http_url`.
    """

    data_dir: Path = Path(".data")
    export_sink: Literal["file", "http"] = "file"
    export_dir: Path | None = None
    """The folder of the files, the cursor and the lock. Default: `export` in `data_dir`."""
    export_poll_s: Wait = 0.5
    export_report_s: Seconds = 60.0
    export_retry_s: Wait = 10.0
    export_pause_s: Wait = 30.0
    export_pause_after: Annotated[int, Meta(ge=1, le=1_000)] = 6
    export_file_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 16 << 20
    export_file_age_s: Seconds = 60.0
    export_compact_files: Annotated[int, Meta(ge=0, le=2_000)] = 60
    export_compact_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 32 << 20
    export_http_url: str = ""
    export_http_totals_url: str = ""
    export_http_token_file: Path | None = None
    export_http_rows: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    export_http_age_s: Seconds = 1.0
    export_http_timeout_s: Wait = 10.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "text", "json"] = "auto"

    def __post_init__(self) -> None:
        if self.export_sink == "http" and not self.export_http_url:
            raise ValueError("EXPORT_SINK is http, but EXPORT_HTTP_URL is not set: where should the rows be sent?")
        for name, url in (
            ("EXPORT_HTTP_URL", self.export_http_url),
            ("EXPORT_HTTP_TOTALS_URL", self.export_http_totals_url),
        ):
            if url:
                _judge(name, url, with_token=self.export_http_token_file is not None)

    @property
    def folder(self) -> Path:
        return self.export_dir or self.data_dir / "export"


def _judge(name: str, url: str, *, with_token: bool) -> None:
    """Check the URL that the variable `name` has, with or without a bearer token to send there.

    Raises ValueError if the URL is no HTTP address, has a user or a password, or would send the token without TLS to
    another machine. The message does not repeat the URL, which may contain a secret.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        httpx.Request("POST", url)
    except (ValueError, httpx.InvalidURL):  # such as a port out of range, or a character that no host may have
        usable = False
    if not usable:
        raise ValueError(f"{name} is not an HTTP address, such as https://platform.example/rows")
    if parts.username or parts.password:
        raise ValueError(
            f"{name} has a password in it: put a bearer token into the file EXPORT_HTTP_TOKEN_FILE instead"
        )
    if with_token and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"{name} is not https, and the bearer token would be readable on its way")
