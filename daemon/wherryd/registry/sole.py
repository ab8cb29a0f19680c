"""Writes that depend on what is there, where a store honours no conditions (``?commit=single-writer``).

Owns: looking, plain putting and looking again in place of a conditional put; the object that names the
home which alone writes, and refusing any other. Does not own: whether a store honours conditions
(``stores.probe``), which bytes are tried at which number (``commit``).

The user's promise that one home writes makes this safe; the object shows most breaches of it. It is read
before and after each write, so that two homes can't both go on, whoever was first: who finds another's name
stops (``StoreTaken``). Where the object is not there, the store has passed the probe, and conditions are what
it is asked for.

A put that got no answer may still arrive. Records are sent again with the same bytes, so that it does no
harm; for other bytes the key is left alone for ``LATE_S``. A kill forgets that, and leaves what was there or
what was put: reading tells, as after any kill. Decision 0019 has what is not caught.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from wherry.errors import StoreError, StoreTaken, StoreUnavailable, StoreUnfit
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.registry import layout, records
from wherryd.registry.base import Writer
from wherryd.stores.base import (
    EtagMismatch,
    Object,
    ObjectExists,
    ObjectStore,
    OutcomeUnknown,
    WriteConflict,
)
from wherryd.stores.retry import RetryingStore

LATE_S = 60.0
"""How long a put without an answer may still arrive: twice the silence after which one is given up."""

_AFTER_CLAIM = failpoint("registry.sole.after-claim")
_AFTER_PUT = failpoint("registry.sole.after-put")


class SoleWriter:
    """The conditional writes of a store; one for each address, since it knows what is under way.

    Args:
        store: as it is: what writes is never repeated.
        me: this home, at this store's address.
        clock: for pauses.
    """

    def __init__(self, store: ObjectStore, me: Writer, clock: Clock) -> None:
        self._store = store
        self._looks = RetryingStore(store, clock)
        self._me = me
        self._clock = clock
        self._busy: set[str] = set()
        self._late: dict[str, _Late] = {}

    async def is_claimed(self) -> bool:
        """Whether the store is written without conditions, by this home alone.

        Raises ``StoreTaken`` where it is another's, or this home's under another address.
        """
        found = await self._looks.get_all([layout.WRITER])
        return self._is_mine(found.get(layout.WRITER))

    async def claim(self) -> None:
        """Become the one home that writes, unless another is. Raises ``StoreTaken``, ``OutcomeUnknown``."""
        if await self.is_claimed():
            return
        await self._store.put(layout.WRITER, records.encode(self._me))
        _AFTER_CLAIM()
        if not await self.is_claimed():
            raise OutcomeUnknown(f"{layout.WRITER} was written and is not there")

    async def put_if_absent(self, key: str, body: bytes) -> str:
        with self._alone_at(key):
            there, is_mine = await self._look(key)
            if there:
                raise ObjectExists(key)
            if not is_mine:
                try:
                    return await self._store.put_if_absent(key, body)
                except StoreUnfit:  # it knows no conditions, and its writer's name was removed
                    await self.claim()
            return await self._put(key, body, there)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        with self._alone_at(key):
            there, is_mine = await self._look(key)
            if there is None or there.stat.etag != etag:
                raise EtagMismatch(key)
            if not is_mine:
                return await self._store.put_if_match(key, body, etag)
            return await self._put(key, body, there)

    @contextmanager
    def _alone_at(self, key: str) -> Iterator[None]:
        if key in self._busy:
            raise WriteConflict(key)
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)

    async def _put(self, key: str, body: bytes, before: Object | None) -> str:
        self._check_late(key, body, before)
        with self._noting_late(key, body):
            await self._store.put(key, body)
        _AFTER_PUT()
        try:
            there, _ = await self._look(key)
        except StoreUnavailable as exc:
            raise OutcomeUnknown(f"{key} was written, and can't be read: {exc.message}") from exc
        if there is None or there.body != body:
            raise OutcomeUnknown(f"{key} was written, and what is there is something else")
        return there.stat.etag

    async def _look(self, key: str) -> tuple[Object | None, bool]:
        found = await self._looks.get_all([key, layout.WRITER])
        return found.get(key), self._is_mine(found.get(layout.WRITER))

    def _is_mine(self, found: Object | None) -> bool:
        if found is None:
            return False
        writer = records.decode_writer(layout.WRITER, found.body)
        if (writer.home, writer.address) != (self._me.home, self._me.address):
            raise _taken(self._me, writer)
        return True

    @contextmanager
    def _noting_late(self, key: str, body: bytes) -> Iterator[None]:
        """Note a put without an answer: one that was given up, too, when its task was cancelled."""
        is_known = False
        try:
            yield
            is_known = True
        except StoreError as exc:
            is_known = not (isinstance(exc, OutcomeUnknown) and exc.may_arrive)
            raise
        finally:
            if not is_known:
                self._late[key] = _Late(body, self._clock.monotonic() + LATE_S)

    def _check_late(self, key: str, body: bytes, there: Object | None) -> None:
        now = self._clock.monotonic()
        self._late = {each: late for each, late in self._late.items() if late.until > now}
        late = self._late.get(key)
        has_arrived = late and there and there.body == late.body
        if late and not has_arrived and late.body != body:
            error = StoreUnavailable(
                f"An earlier write of {key} got no answer and may still arrive."
            )
            error.retry_after_s = late.until - now
            raise error


class _Late(msgspec.Struct, frozen=True):
    """A put that got no answer."""

    body: bytes
    until: float  # monotonic clock


def _taken(me: Writer, writer: Writer) -> StoreTaken:
    if writer.home == me.home:
        return StoreTaken(
            f"The store {me.address} is one that this home writes alone, as {writer.address}.",
            hint="Use that address, for everything that is logged there.",
        )
    return StoreTaken(
        f"The store {me.address} has no conditional writes, and so room for one home that writes:"
        f" {writer.home}, at {writer.place}.",
        hint="Log there, or to another prefix. Where that home will never write again, remove the object"
        f" {layout.WRITER}; the next home that writes takes its place.",
    )
