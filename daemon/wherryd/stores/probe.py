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
from wherry.wire.address import split_store
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.stores.base import (
    EtagMismatch,
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
_NEEDED = (
    "Wherry needs a store with conditional writes (If-None-Match: *, If-Match; on gs:// ifGenerationMatch), as "
    "only they keep two writers from taking one number"
)
_OTHERS = "use a newer version of the server, another server, or a folder"
_ALONE = (
    "if one home alone writes there, and you promise that, add commit=single-writer to the address"
    " (docs/stores.md)"
)

_BEFORE_DELETE = failpoint("stores.probe.before-delete")
_DELETED = failpoint("stores.probe.deleted")


class Unconditional(StoreUnfit):
    """The store does not honour conditions, which a single writer can do without."""


async def probe(store: ObjectStore, clock: Clock) -> None:
    """Race creates of one key and look for a key that is not there; leave nothing behind.

    Args:
        store: as it is, without a wrapper that repeats.
        clock: names the key, gives pauses.

    Raises:
        Unconditional: more than one create won, none did, the winner's bytes are not there, or a replace was
            taken for another ETag than the one there is, or refused for that one. It will stay so.
        StoreUnfit: a missing key does not read as missing.
        StoreError: the store could not be asked; try again later.
    """
    key = f"{_PREFIX}{clock.token()}"
    await _check_missing(store, key)
    try:
        for _ in range(_ROUNDS):
            won = await _race(store, key, Retry(clock, PATIENT))
            if won:
                await _check_winner(store, key, won)
                await _check_replace(store, key)
                await _sweep(store, key)
                return
        raise _unconditional(store, f"lets none of {_RACERS} racing creates of a key win")
    except Unconditional:
        raise
    except StoreUnfit as exc:  # it takes no condition (501, 400)
        raise _unconditional(store, f"refuses a conditional write: {exc.message}") from exc
    finally:
        with anyio.CancelScope(shield=True), suppress(StoreError):
            _BEFORE_DELETE()
            await store.delete(key)
            _DELETED()


async def _check_missing(store: ObjectStore, key: str) -> None:
    for look in (store.get, store.head):
        try:
            await look(key)
        except ObjectMissing:
            continue
        raise StoreUnfit(
            f"The store {store.address} gives an object for a key that is not there.",
            hint=f"Wherry can't use it: {_OTHERS}.",
        )


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
        raise _unconditional(store, f"lets {len(won)} of {_RACERS} racing creates of a key win")
    if (await store.get(key)).body != won[0]:
        raise _unconditional(store, "holds other bytes than those of the create that won")


async def _check_replace(store: ObjectStore, key: str) -> None:
    """Replace what is there, and then what was there before. Without an answer nothing is known."""
    before = (await store.get(key)).stat.etag
    try:
        await store.put_if_match(key, b"replaced", before)
        await store.put_if_match(key, b"replaced again", before)
    except WriteConflict as exc:
        raise StoreUnavailable(f"{key} is being written by somebody else") from exc
    except EtagMismatch:
        if (await store.get(key)).body == b"replaced":
            return
        raise _unconditional(store, "refuses a replace of what is there") from None
    raise _unconditional(store, "lets a replace of what is not there any more win")


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


def _unconditional(store: ObjectStore, what: str) -> Unconditional:
    return Unconditional(f"The store {store.address} {what}.", hint=_hint(store.address))


def _hint(address: str) -> str:
    """What to do about it. Only servers of S3 may lack conditions and be good for a single writer."""
    if not address.startswith("s3:"):
        return f"{_NEEDED}: {_OTHERS}."
    # takes a tenth of a second where no store on S3 was opened before
    from wherryd.stores.s3.traits import traits_of

    instead = traits_of(split_store(address).options.get("endpoint_url", "")).instead
    return f"{_NEEDED}: {instead or _OTHERS}; or, {_ALONE}."
