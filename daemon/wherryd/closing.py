"""Closing what a registry or a store gives piece by piece: a listing, a manifest, a file's bytes.

Owns: that connections and files are given back at once when a reader goes away. Does not own: reading.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
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


async def in_batches(
    items: AsyncIterator[_T],
    count: int,
    size_of: Callable[[_T], int] = lambda _: 0,
    size_bytes: int = 1,
) -> AsyncGenerator[list[_T], None]:
    """The same items, so many at once; the last batch may have fewer. Closes ``items``.

    Args:
        size_of: an item's bytes.
        size_bytes: a batch with so many is full as well.
    """
    batch: list[_T] = []
    held = 0
    async with closing(items) as found:
        async for item in found:
            batch.append(item)
            held += size_of(item)
            if len(batch) == count or held >= size_bytes:
                yield batch
                batch, held = [], 0
    if batch:
        yield batch
