"""Reads credentials for a bucket from AWS's file of profiles. The library obstore itself finds all others."""

import configparser
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3CredentialProvider

FRESH: Final = timedelta(minutes=5)
"""After so long at the latest the file is read again: credentials may be changed while a process runs."""

EARLY: Final = timedelta(minutes=5)
"""The library asks anew so long before credentials expire."""

OTHER_WAYS: Final = "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"
"""Variables of which each one, if it is set, comes before the file."""


def in_file() -> "S3CredentialProvider | None":
    """Return a function that reads the credentials of the profile in AWS_PROFILE, by default `default`.

    None: a variable of OTHER_WAYS is set, or the file has no credentials of this profile.
    """
    return None if any(map(os.environ.get, OTHER_WAYS)) or "aws_access_key_id" not in _profile() else _credential


def _credential() -> "S3Credential":
    profile = _profile()
    return {
        "access_key_id": profile.get("aws_access_key_id", ""),
        "secret_access_key": profile.get("aws_secret_access_key", ""),
        "token": profile.get("aws_session_token"),
        "expires_at": datetime.now(UTC) + EARLY + FRESH,
    }


def _profile() -> dict[str, str]:
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials")
    found = configparser.ConfigParser(interpolation=None)
    try:
        found.read_string(path.read_text())
        return dict(found[os.environ.get("AWS_PROFILE") or "default"])
    except (OSError, RuntimeError, UnicodeDecodeError, KeyError, configparser.Error):  # RuntimeError: no home
        return {}
