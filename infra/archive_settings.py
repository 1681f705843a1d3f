"""Where the archive of the stream is: in a folder, or in a bucket of an S3-compatible store."""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from infra.addresses import is_http_address, is_loopback
from infra.bucket_url import BucketUrl, parse_bucket_url


class ArchiveSettings(Struct, frozen=True, kw_only=True):
    """The settings of the archive. Making one checks nothing: `check_archive` does."""

    data_dir: Path = Path(".data")
    archive_dir: str = ""
    """The folder with the archived generations of the stream; empty: `archive` in `data_dir`."""
    archive_url: str = ""
    """The bucket with them in place of the folder, as s3://bucket/prefix; empty: they are in the folder."""
    archive_endpoint: str = ""
    """The address of the bucket's store, such as https://s3.example; empty: AWS_ENDPOINT_URL, or Amazon's."""
    archive_region: str = ""
    archive_addressing: Literal["path", "virtual"] = "path"
    """Where the bucket's name is: in the path, or before the host's name."""
    archive_http: Literal["loopback", "anywhere"] = "loopback"
    """Where a store may be asked without TLS."""
    archive_cache_dir: str = ""
    """For copies of the bucket's indexes, and files on their way into it; empty: `archive-cache` in `data_dir`."""
    archive_cache_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 60)] = 1 << 30

    def check_archive(self) -> None:
        """Raise ValueError if ARCHIVE_URL or ARCHIVE_ENDPOINT cannot be used, or obstore is not installed.

        Also if ARCHIVE_DIR is set beside ARCHIVE_URL. The message shows no values. Without `archive_url` nothing is
        checked, as the bucket's settings are not used then.
        """
        if not self.archive_url:
            return
        try:
            parse_bucket_url(self.archive_url)
        except ValueError as error:
            raise ValueError(f"ARCHIVE_URL is no address of a bucket, such as s3://bucket/prefix: {error}") from None
        if self.archive_dir:
            raise ValueError(
                "ARCHIVE_URL and ARCHIVE_DIR are both set: the archive is in one place. Unset ARCHIVE_DIR once the "
                "bucket has what is in that folder (just archive --copy-to)"
            )
        if self.archive_endpoint:
            _check_endpoint(self.archive_endpoint, self.archive_http)
        if importlib.util.find_spec("obstore") is None:
            raise ValueError(
                "ARCHIVE_URL needs obstore, which is not installed: `uv sync --inexact --extra bucket` installs it"
            )

    @property
    def archive(self) -> Path:
        """The folder of the archive, which may be missing; not used if `archive_bucket` says that it is in a bucket."""
        return Path(self.archive_dir) if self.archive_dir else self.data_dir / "archive"

    @property
    def archive_cache(self) -> Path:
        """The folder for copies of the bucket's indexes, and files on their way into the bucket. It may be missing."""
        return Path(self.archive_cache_dir) if self.archive_cache_dir else self.data_dir / "archive-cache"

    @property
    def archive_bucket(self) -> BucketUrl | None:
        """The bucket and prefix where the archive is; None: the archive is in the folder `archive`."""
        return parse_bucket_url(self.archive_url) if self.archive_url else None


def _check_endpoint(endpoint: str, http: str) -> None:
    if not is_http_address(endpoint):
        raise ValueError("ARCHIVE_ENDPOINT is no address of a store, such as https://s3.example")
    url = urlsplit(endpoint)
    if url.username is not None or url.path.strip("/") or url.query or url.fragment:
        raise ValueError(
            "ARCHIVE_ENDPOINT is a scheme, a host and a port alone: credentials are in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, bucket and prefix in ARCHIVE_URL"
        )
    if url.scheme == "http" and http != "anywhere" and not is_loopback(url.hostname or ""):
        raise ValueError(
            "ARCHIVE_ENDPOINT begins with http://, so all who see the network could read and change the archive on its "
            "way: use https://, or set ARCHIVE_HTTP=anywhere"
        )
