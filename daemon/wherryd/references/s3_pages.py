"""Pages of S3 listings, taken apart. No I/O.

Owns: what a page's XML says, where the next one goes on. Does not own: asking for pages (``s3_bucket``).
Sources: Amazon S3 API Reference, "ListObjectsV2", "ListObjectVersions".

Keys are asked for in percent-encoding, since XML has no way to write some characters that they may hold; a
server that does not know of it gives them plain, and does not say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

import msgspec

from wherryd.references.answers import etag_digest

_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Item(msgspec.Struct, frozen=True):
    """One object of a bucket."""

    key: str
    digest: str | None  # None where the server does not tell the ETag
    size: int
    version: str | None = None
    sums: tuple[str, ...] = ()  # further checksums; listings have none

    @property
    def is_marker(self) -> bool:
        """Whether it is a folder that a console made."""
        return self.size == 0 and self.key.endswith("/")


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a listing goes on."""

    last: str = ""  # key of the last object that was given
    token: str = ""  # what the server wants to have back

    @classmethod
    def read(cls, text: str) -> Cursor:
        """The cursor that ``str`` wrote; at first, of ""."""
        return msgspec.json.decode(text, type=cls) if text else cls()

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


class Objects(msgspec.Struct, frozen=True):
    """A page of objects as they are."""

    items: list[Item]
    is_last: bool
    token: str


class Versions(msgspec.Struct, frozen=True):
    """A page of objects' versions: the latest, without those that are deleted."""

    items: list[Item]
    is_last: bool
    next_key: str  # after which the next page begins
    next_version: str


class NoListing(Exception):
    """What came is no page of that kind."""


def read_objects(body: bytes) -> Objects:
    """Read an answer to ListObjectsV2. Raises ``NoListing``."""
    page = _Page(body, "ListBucketResult")
    items = [page.item(element) for element in page.all("Contents")]
    token = page.text("NextContinuationToken")
    return Objects(items, page.is_last, _mended(token, items[-1].key) if items else token)


def _mended(token: str, last: str) -> str:
    """A token that begins with the last key, as SeaweedFS's do: nothing in it is percent-encoded."""
    damaged = _NOT_IN_XML.sub("\ufffd", last)
    return last + token.removeprefix(damaged) if token.startswith(damaged) else token


def read_versions(body: bytes) -> Versions:
    """Read an answer to ListObjectVersions. Raises ``NoListing``."""
    page = _Page(body, "ListVersionsResult", "ListBucketVersionsResult")
    items = [
        page.item(element)
        for element in page.all("Version")
        if page.text("IsLatest", element) == "true"
    ]
    next_key = page.unquote(page.text("NextKeyMarker"))
    return Versions(items, page.is_last, next_key, page.text("NextVersionIdMarker"))


class _Page:
    def __init__(self, body: bytes, *names: str) -> None:
        try:
            self._root = ET.fromstring(body.strip())  # noqa: S314  # expat limits what entities grow to
        except ET.ParseError as exc:
            raise NoListing(str(exc)) from exc
        space, _, name = self._root.tag.rpartition("}")
        self._space = space and space + "}"
        if name not in names:
            raise NoListing(f"<{name}>")
        plain = self.text("EncodingType") != "url"
        self.unquote: Callable[[str], str] = str if plain else unquote_plus

    @property
    def is_last(self) -> bool:
        return self.text("IsTruncated") != "true"

    def all(self, name: str) -> list[ET.Element]:
        return self._root.findall(self._space + name)

    def text(self, name: str, element: ET.Element | None = None) -> str:
        within = self._root if element is None else element
        return within.findtext(self._space + name) or ""

    def item(self, element: ET.Element) -> Item:
        size, version = self.text("Size", element), self.text("VersionId", element)
        if not size.isdecimal():
            raise NoListing("an object without its size")
        return Item(
            key=self.unquote(self.text("Key", element)),
            digest=digest_of(self.text("ETag", element)),
            size=int(size),
            version=version_of(version),
        )


def digest_of(etag: str) -> str | None:
    """An ETag as a digest; SeaweedFS lists that of an empty object as ``""``."""
    return etag_digest(etag) if etag.strip('"') else None


def version_of(text: str | None) -> str | None:
    """A version id; ``null`` is none: what is written next takes its place."""
    return None if text in ("", "null") else text
