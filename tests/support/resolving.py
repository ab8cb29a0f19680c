"""A resolver that knows what a test tells it, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from wherry.errors import ReferenceFailed
from wherryd.model import Lookup
from wherryd.references.base import Found, Page, Seen, Target


class FakeResolver:
    """Objects by URI; ``bucket://b/x/`` lists what lies below, ``page`` objects at a time."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}  # URI → ETag
        self.errors: dict[str, list[Exception]] = {}  # by URI: raised one after the other
        self.gates: dict[str, anyio.Event] = {}  # by URI: no answer before
        self.asked: list[tuple[str, str | None]] = []  # URI, where a listing goes on
        self.sums: dict[str, tuple[str, ...]] = {}  # by URI: of a single object
        self.page = 2

    def host(self, target: Target) -> str:
        return target.uri.split("/")[2]

    async def look(self, target: Target) -> Found | None:
        await self._note(target.uri, None)
        etag = self.objects.get(target.uri)
        if etag is not None:
            path, sums = target.uri.rpartition("/")[2], self.sums.get(target.uri, ())
            return Found(target.uri, path, f"etag:{etag}", len(etag), sums=sums)
        if target.uri.startswith("bucket:"):
            return None
        raise ReferenceFailed(f"{self.host(target)} answers 404 for {target.uri}")

    async def list(self, target: Target, after: str) -> Page:
        await self._note(target.uri, after)
        prefix = f"{target.uri.rstrip('/')}/"
        left = sorted(uri for uri in self.objects if uri.startswith(prefix) and uri > after)
        found = [
            Found(
                uri, uri.removeprefix(prefix), f"etag:{self.objects[uri]}", len(self.objects[uri])
            )
            for uri in left[: self.page]
        ]
        return Page(found, found[-1].uri if len(left) > self.page else None)

    async def check(self, seen: Seen) -> None:
        raise NotImplementedError

    def open(self, seen: Seen, start: int = 0) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass

    async def _note(self, uri: str, after: str | None) -> None:
        self.asked.append((uri, after))
        if uri in self.gates:
            await self.gates[uri].wait()
        if self.errors.get(uri):
            raise self.errors[uri].pop(0)


def lookup(number: int, uri: str, name: str = "", max_objects: int = 10_000) -> Lookup:
    """A reference as a client sends it."""
    return Lookup(number, uri, "", name, max_objects)
