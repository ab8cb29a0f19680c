"""Reading, and looking at, several objects of a store that answers one question a request.

Owns: asking for all at the same time. Does not own: why it is asked (``registry``), folders, which can be
held open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from wherryd.stores.base import Object, ObjectMissing, ObjectStore, Sizes
from wherryd.together import all_of


async def get_each(store: ObjectStore, keys: Sequence[str]) -> dict[str, Object]:
    """Do ``ObjectStore.get_all`` by one request for each key."""
    found = await all_of(*(partial(_get, store, key) for key in keys))
    return {key: there for key, there in zip(keys, found, strict=True) if there}


async def look_at_each(store: ObjectStore, keys: Sequence[str], witness: str) -> Sizes:
    """Do ``ObjectStore.sizes`` by one request for each key."""
    found: dict[str, int] = {}
    seen: list[Object | None] = []

    async def look(key: str) -> None:
        with suppress(ObjectMissing):
            found[key] = (await store.head(key)).size

    async def witness_it() -> None:
        seen.append(await _get(store, witness))

    await all_of(witness_it, *(partial(look, key) for key in keys))
    return Sizes(seen[0].body if seen[0] else None, found)


async def _get(store: ObjectStore, key: str) -> Object | None:
    try:
        return await store.get(key)
    except ObjectMissing:
        return None
