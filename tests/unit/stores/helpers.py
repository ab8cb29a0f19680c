"""A clock that a test sets, and stores at scripted servers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from tests.support.http import Scripted, scripted
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.s3.store import S3Store

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAGOOD", "AWS_SECRET_ACCESS_KEY": "hush-hush"}


class TestClock:
    """Time stands still but for ``sleep``, which takes none; chance is ``chance``, always."""

    __test__ = False

    def __init__(self, now: float = 1_800_000_000.0, chance: float = 0.5) -> None:
        self.time = now
        self.chance = chance
        self.slept: list[float] = []
        self._tokens = itertools.count()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await anyio.lowlevel.checkpoint()

    def random(self) -> float:
        return self.chance

    def token(self) -> str:
        return f"{next(self._tokens):032x}"


@asynccontextmanager
async def store_at(
    *script: object, clock: TestClock | None = None, keys: Mapping[str, str] = KEYS
) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """A store whose server says what the script has."""
    credentials = StoreCredentials()
    credentials.hand_over(keys)
    async with scripted(*script) as server:
        address = f"s3://bucket?endpoint_url={server.url}&region=us-east-1"
        store = S3Store(address, credentials, clock or TestClock())
        try:
            yield store, server
        finally:
            await store.aclose()
