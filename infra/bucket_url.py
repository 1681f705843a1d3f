"""An address in an S3-compatible store, as ARCHIVE_URL has it: s3://bucket/prefix."""

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()=-]+(/[A-Za-z0-9!_.*'()=-]+)*")


class BucketUrl(NamedTuple):
    """A bucket, and the `prefix` of the archive's object names in it: may be empty, has no slash at its ends."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_bucket_url(url: str) -> BucketUrl:
    """Parse the address. Raises ValueError if it is none, or has credentials.

    The message says why, and omits the URL, which may have a password.
    """
    try:
        parts = urlsplit(url)
        credentials = "@" in parts.netloc
    except ValueError:
        raise ValueError("the bucket's name is none") from None
    if parts.scheme != "s3":
        raise ValueError("it begins with s3://")
    if credentials:
        raise ValueError("it has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if parts.query or parts.fragment:
        raise ValueError("nothing follows the prefix")
    if not _BUCKET.fullmatch(parts.netloc) or ".." in parts.netloc:
        raise ValueError("a bucket's name has 3 to 63 small letters, digits, hyphens and dots")
    prefix = parts.path.strip("/")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError("a prefix has letters, digits and !-_.*'()= between single slashes, no . or .. alone")
    return BucketUrl(parts.netloc, prefix)
