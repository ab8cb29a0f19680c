"""References as the stages see them. Owns: the plain data, and what a resolver promises.

Does not own: any server's protocol (``http``, ``s3``, ``gs``), which resolver a URI has (``table``),
asking once for many and when to ask again (``asking``, ``prepare``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec


class Target(msgspec.Struct, frozen=True):
    """What a user's reference names: an object, or a prefix."""

    uri: str  # as it was given
    server: str = ""  # whose server, where the URI does not say: an S3 bucket's address


class Found(msgspec.Struct, frozen=True):
    """One object as its server described it."""

    uri: str
    path: str  # below the prefix that was listed; of a single object its last segment
    digest: str | None  # "etag:…", "crc32c:…"; None where the server gives no checksum
    size: int | None  # bytes
    version: str | None = None  # S3 version id, GCS generation
    #: Further checksums of the whole object, as a manifest has them (docs/store-format.md, "Manifests").
    #: References are not compared by them.
    sums: tuple[str, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """A part of what a prefix holds."""

    objects: list[Found]
    after: str | None  # where the next page goes on; None: this was the last


class Seen(msgspec.Struct, frozen=True):
    """A reference as a version has it: what a server said when it was resolved."""

    uri: str
    server: str
    digest: str | None
    size: int | None
    version: str | None

    @property
    def is_told_apart(self) -> bool:
        """Whether a part of it is known to belong to another part that came earlier."""
        return self.digest is not None or self.version is not None


class Resolver(Protocol):
    """What finds out about the URIs of one kind of server.

    Every method may raise:
        ReferenceFailed: the server's answer is final: there is no such thing, or nobody may see it.
        ReferenceUnavailable: another try may go better; ``host`` names whom to leave alone meanwhile.
    A resolver repeats nothing by itself but what a protocol asks for (redirects, another region, HEAD
    refused): pauses are its caller's.
    """

    def host(self, target: Target) -> str:
        """Whom a question about ``target`` goes to, as users know it: ``data.example.org``, ``s3://bucket``."""
        ...

    async def look(self, target: Target) -> Found | None:
        """Ask about one object; None where the URI can only be a prefix, or no such object is there
        and the scheme has prefixes.
        """
        ...

    async def list(self, target: Target, after: str) -> Page:
        """Ask for a page of what lies below the URI, from ``after`` (``Page.after``; "" at first) on.

        By whole segments, in the order of the server's keys; no folder markers.
        """
        ...

    async def check(self, seen: Seen) -> None:
        """Raise ``ReferenceFailed``, naming what changed, unless the server still has what was seen."""
        ...

    def open(self, seen: Seen, start: int = 0) -> AsyncIterator[bytes]:
        """Read what was seen, its recorded version where there is one.

        Args:
            start: how many bytes to leave out, which came in an answer that was cut. Only where
                ``seen.is_told_apart``: the server may have another object by now.

        Raises ``ReferenceFailed``, naming what changed, before the first chunk where the server says
        something else than was recorded, and after the last where the size is another.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections."""
        ...
