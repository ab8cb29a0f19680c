"""Closing what a registry or a store gives piece by piece: a listing, a manifest, a file's bytes.

Owns: that connections and files are given back at once when a reader goes away. Does not own: reading.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

_T = TypeVar("_T")


@asynccontextmanager
async def closing(items: AsyncIterator[_T]) -> AsyncGenerator[AsyncIterator[_T], None]:
    """Close ``items`` at the block's end, if it can be closed."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def in_batches(items: AsyncIterator[_T], count: int) -> AsyncGenerator[list[_T], None]:
    """The same items, so many at once; the last batch may have fewer. Closes ``items``."""
    batch: list[_T] = []
    async with closing(items) as found:
        async for item in found:
            batch.append(item)
            if len(batch) == count:
                yield batch
                batch = []
    if batch:
        yield batch
