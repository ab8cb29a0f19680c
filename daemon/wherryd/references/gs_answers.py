"""What Google Cloud Storage's answers look like.

Owns: an object, a page of a listing, a refusal's reason. Does not own: asking (``gs_bucket``). Source: Cloud
Storage JSON API, "Objects", "HTTP status and error codes".
"""

from __future__ import annotations

import aiohttp
import msgspec

from wherryd.references.sums import sum_of


class Item(msgspec.Struct, frozen=True):
    """An object as the server describes it."""

    name: str
    size: str
    generation: str
    crc32c: str = ""  # missing where a customer's own key encrypts it
    md5: str = msgspec.field(default="", name="md5Hash")  # of composite objects there is none

    @property
    def digest(self) -> str | None:
        """The checksum that is recorded."""
        return f"crc32c:{self.crc32c}" if self.crc32c else None

    @property
    def sums(self) -> tuple[str, ...]:
        """What is recorded beside it."""
        md5 = sum_of("md5", self.md5)
        return (md5,) if md5 else ()

    @property
    def is_marker(self) -> bool:
        """Whether it is a folder that a console made."""
        return self.size == "0" and self.name.endswith("/")


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """A page of a listing."""

    items: list[Item] = []
    next_page_token: str = ""


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked; all of Google's are asked for packed."""
    body = await response.read()
    if response.headers.get("Content-Encoding") == "gzip":
        import gzip

        return gzip.decompress(body)
    return body


async def reason_of(response: aiohttp.ClientResponse) -> str | None:
    """Why the server refuses; None where this is not how it would say so."""
    try:
        return msgspec.json.decode(await body_of(response), type=_Refusal).error.message
    except msgspec.DecodeError:
        return None
