"""Tells this process's own forms from those of other sites' pages."""

import secrets
from hmac import compare_digest
from typing import Final
from urllib.parse import parse_qs

from infra.http.parameters import AnyRequest
from infra.http.problems import Problem

MOST_FIELDS: Final = 2_010
MAX_FORM_BYTES: Final = 256 << 10
"""Of the keys of all dead letters that a page shows: the longest ids make 100 kB of a thousand keys."""


class Form:
    """Tells this process's own forms from others: they have `token`, which pages of other sites cannot read."""

    def __init__(self) -> None:
        self.token: Final = secrets.token_urlsafe(32)

    async def read(self, request: AnyRequest) -> dict[str, list[str]]:
        """Return the fields of a posted form: name → values.

        Raises Problem: 400 if the body is no form or has too many fields, 403 if its token is not this process's.
        """
        try:
            fields = parse_qs((await request.body()).decode(), max_num_fields=MOST_FIELDS, strict_parsing=True)
        except ValueError:  # also a text that is not UTF-8
            raise Problem(400, "invalid-request", "this is no form of this page, or it has too many fields") from None
        if not compare_digest(fields.get("token", [""])[0].encode(), self.token.encode()):
            raise Problem(403, "foreign-form", "this form is not of this dashboard, or is of before its restart")
        return fields
