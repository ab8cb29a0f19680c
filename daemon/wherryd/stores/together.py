"""Reading, and looking at, several objects of a store that answers one question a request.

Owns: asking for all at the same time; one question for all who want to know the same from now on. Does not
own: why it is asked (``registry``), folders, which can be held open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import anyio

from wherryd.stores.base import Found, Object, ObjectMissing, ObjectStore, Sizes
from wherryd.together import all_of


class Shared:
    """A question that is sent once for all who wait to have it asked.

    An answer counts for those who came before its question was sent. Who comes while one is under way waits
    for the next, which the first of them sends: so many transfers that end one after the other, within the
    time of an answer, cost one question.
    """

    def __init__(self) -> None:
        self._turn = anyio.Lock(fast_acquire=True)
        self._sent = 0
        self._answered = 0  # the number of the question whose answer is kept, or
        self._failed = 0  # of the last that had none
        self._there: Object | None = None

    async def ask(self, ask: Callable[[], Awaitable[Object | None]]) -> Object | None:
        """Give an answer to a question that was sent after this call. Raises as ``ask``, for its own."""
        before = self._sent
        async with self._turn:
            if self._answered > before:
                return self._there
            if self._failed <= before:
                return await self._send(ask)
        return await ask()  # side by side: else each would wait for the others' time-outs

    async def _send(self, ask: Callable[[], Awaitable[Object | None]]) -> Object | None:
        self._sent = number = self._sent + 1
        try:
            self._there = await ask()
        except Exception:
            self._failed = number
            raise
        self._answered = number
        return self._there


class _Sharing(ObjectStore, Protocol):
    @property
    def shared(self) -> defaultdict[str, Shared]: ...


class OneByOne:
    """The verbs for several objects, by one request for each key. What such a server has taken, lasts."""

    def __init__(self) -> None:
        self.shared: defaultdict[str, Shared] = defaultdict(Shared)
        """Questions for each witness."""

    async def get_all(self: ObjectStore, keys: Sequence[str]) -> dict[str, Object]:
        found = await all_of(*(partial(_get, self, key) for key in keys))
        return {key: there for key, there in zip(keys, found, strict=True) if there}

    async def sync(self: _Sharing, keys: Sequence[str], witness: str) -> Found:  # noqa: ARG002
        there = await self.shared[witness].ask(partial(_get, self, witness))
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
