"""Finding out whether a store does what a commit needs (docs/commit.md, rule 10).

Owns: the question, and that nothing is left of it: a process that ends here leaves its key, which the next
probe of the store removes. Does not own: when it is asked, and that the answer is kept (``transfer``,
``queue``).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial

import anyio

from wherry.errors import StoreError, StoreUnavailable, StoreUnfit
from wherryd.clock import Clock
from wherryd.stores.base import (
    ObjectExists,
    ObjectMissing,
    ObjectStat,
    ObjectStore,
    WriteConflict,
)
from wherryd.stores.retry import PATIENT, Retry
from wherryd.together import all_of

_RACERS = 16
_ROUNDS = 3
_PREFIX = "wherry-probe-"
#: A project may be called like it, and has a ``/`` behind its name.
_KEY = re.compile(r"wherry-probe-[0-9a-f]{32}")
#: Any probe is over by then.
_LEFT_S = 3600
_MOST_SWEPT = 1000
_HINT = (
    "Wherry needs a store with conditional writes (If-None-Match: *; on gs:// ifGenerationMatch=0): use a "
    "newer version of the server, another server, or a folder."
)


async def probe(store: ObjectStore, clock: Clock) -> None:
    """Race creates of one key and look for a key that is not there; leave nothing behind.

    Args:
        store: as it is, without a wrapper that repeats.
        clock: names the key, gives pauses.

    Raises:
        StoreUnfit: more than one create won, none did, the winner's bytes are not there, or a missing
            key does not read as missing. No answer later will be another: use another store.
        StoreError: the store could not be asked; try again later.
    """
    key = f"{_PREFIX}{clock.token()}"
    await _check_missing(store, key)
    try:
        for _ in range(_ROUNDS):
            won = await _race(store, key, Retry(clock, PATIENT))
            if won:
                await _check_winner(store, key, won)
                await _sweep(store, key)
                return
        raise _unfit(store, f"lets none of {_RACERS} racing creates of a key win")
    finally:
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await store.delete(key)


async def _check_missing(store: ObjectStore, key: str) -> None:
    for look in (store.get, store.head):
        try:
            await look(key)
        except ObjectMissing:
            continue
        raise _unfit(store, "gives an object for a key that is not there")


async def _race(store: ObjectStore, key: str, retry: Retry) -> list[bytes]:
    """Create a key many times at once; the bodies of those that won.

    Who got no answer asks again, since a busy server turns some of so many away. One that had won then
    finds its own bytes there, which the object tells.
    """
    won: list[bytes] = []
    unheard: list[bytes] = []

    async def create(body: bytes) -> None:
        async def try_once() -> None:
            try:
                await store.put_if_absent(key, body)
                won.append(body)
            except (ObjectExists, WriteConflict):
                pass
            except StoreUnavailable:
                unheard.append(body)
                raise

        await retry.run(f"create {key}", try_once)

    await all_of(*(partial(create, b"%d" % number) for number in range(_RACERS)))
    if unheard and not won:
        with suppress(ObjectMissing):
            there = (await store.get(key)).body
            won += [body for body in set(unheard) if body == there]
    return won


async def _check_winner(store: ObjectStore, key: str, won: list[bytes]) -> None:
    if len(won) > 1:
        raise _unfit(store, f"lets {len(won)} of {_RACERS} racing creates of a key win")
    if (await store.get(key)).body != won[0]:
        raise _unfit(store, "holds other bytes than those of the create that won")


async def _sweep(store: ObjectStore, key: str) -> None:
    """Remove what probes that were killed have left, by the store's own clock."""
    with suppress(StoreError, ObjectMissing):
        now = (await store.head(key)).modified
        for stat in await _begin_with(store, _PREFIX):
            if _KEY.fullmatch(stat.key) and now - stat.modified > _LEFT_S:
                await store.delete(stat.key)


async def _begin_with(store: ObjectStore, prefix: str) -> list[ObjectStat]:
    """The first objects whose keys begin so, which need not be a folder."""
    found: list[ObjectStat] = []
    stats = store.list("", start_after=prefix)
    async for stat in stats:
        if not stat.key.startswith(prefix) or len(found) == _MOST_SWEPT:
            break
        found.append(stat)
    if isinstance(stats, AsyncGenerator):
        await stats.aclose()
    return found


def _unfit(store: ObjectStore, what: str) -> StoreUnfit:
    return StoreUnfit(f"The store {store.address} {what}.", hint=_HINT)
