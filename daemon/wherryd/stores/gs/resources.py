"""What Google Cloud Storage's answers look like.

Owns: an object, a page of a listing, an error. Does not own: asking. Source: Cloud Storage JSON API,
"Objects", "HTTP status and error codes".
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Resource(msgspec.Struct, frozen=True, rename="camel"):
    """An object as the server describes it."""

    name: str
    size: str
    generation: str
    crc32c: str = ""  # missing where a customer's own key encrypts it
    md5: str = msgspec.field(default="", name="md5Hash")  # of composite objects there is none
    time_created: datetime | None = None  # of this generation


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """A page of a listing."""

    items: list[Resource] = []
    prefixes: list[str] = []
    next_page_token: str = ""


#: With these reasons 403 is said, as 429 is, to who asks too much: other credentials are of no use.
TOO_MUCH = ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded")


class _Detail(msgspec.Struct, frozen=True):
    reason: str = ""


class Error(msgspec.Struct, frozen=True):
    """Why the server refuses."""

    message: str = ""
    errors: list[_Detail] = []

    @property
    def reason(self) -> str:
        """One word for it."""
        return self.errors[0].reason if self.errors else ""


class _Refusal(msgspec.Struct, frozen=True):
    error: Error


def error_in(body: bytes) -> Error | None:
    """Read an error; None where this is not how the server would say so."""
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError:
        return None
