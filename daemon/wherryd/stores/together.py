"""Reading, and looking at, several objects of a store that answers one question a request.

Owns: asking for all at the same time. Does not own: why it is asked (``registry``), folders, which can be
held open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from wherryd.stores.base import Found, Object, ObjectMissing, ObjectStore, Sizes
from wherryd.together import all_of


class OneByOne:
    """The verbs for several objects, by one request for each key. What such a server has taken, lasts."""

    async def get_all(self: ObjectStore, keys: Sequence[str]) -> dict[str, Object]:
        found = await all_of(*(partial(_get, self, key) for key in keys))
        return {key: there for key, there in zip(keys, found, strict=True) if there}

    async def sync(self: ObjectStore, keys: Sequence[str], witness: str) -> Found:  # noqa: ARG002
        there = await _get(self, witness)
        return Found(there.body if there else None)

    async def sizes(self: ObjectStore, keys: Sequence[str], witness: str) -> Sizes:
        found: dict[str, int] = {}
        seen: list[Object | None] = []

        async def look(key: str) -> None:
            with suppress(ObjectMissing):
                found[key] = (await self.head(key)).size

        async def witness_it() -> None:
            seen.append(await _get(self, witness))

        await all_of(witness_it, *(partial(look, key) for key in keys))
        return Sizes(seen[0].body if seen[0] else None, found)


async def _get(store: ObjectStore, key: str) -> Object | None:
    try:
        return await store.get(key)
    except ObjectMissing:
        return None
