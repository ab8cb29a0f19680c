"""What a reference takes from Google Cloud Storage's answers.

Owns: an object's digest and sums, unpacking answers. Does not own: asking (``gs_bucket``), what the server's
answers look like (``wherryd.stores.gs.resources``).
"""

from __future__ import annotations

import aiohttp
import msgspec

from wherryd.references.sums import sum_of
from wherryd.stores.gs.resources import TOO_MUCH, Resource, error_in


class Item(Resource, frozen=True, rename="camel"):
    """An object."""

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


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked; all of Google's are asked for packed."""
    body = await response.read()
    if response.headers.get("Content-Encoding") == "gzip":
        import gzip

        return gzip.decompress(body)
    return body


async def is_too_much(response: aiohttp.ClientResponse) -> bool:
    """Whether a refusal means that fewer questions are wanted, and no other credentials."""
    error = error_in(await body_of(response)) if response.status == 403 else None
    return error is not None and error.reason in TOO_MUCH


async def reason_of(response: aiohttp.ClientResponse) -> str | None:
    """Why the server refuses; None where this is not how it would say so."""
    error = error_in(await body_of(response))
    return error.message if error else None
