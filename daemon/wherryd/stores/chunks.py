"""Giving an object to a sink, out of a store that gives it in chunks.

Owns: the thread that a sink is called in. Does not own: the chunks; servers, whose bytes threads receive
(``http.blocking``).
"""

from __future__ import annotations

from anyio import to_thread

from wherryd.closing import closing
from wherryd.stores.base import ObjectStore, Sink


class InChunks:
    """The verb that streams to a sink, by the one that streams."""

    async def stream_to(
        self: ObjectStore, key: str, offset: int, size: int | None, sink: Sink
    ) -> None:
        async with closing(self.stream(key, offset, size)) as chunks:
            async for chunk in chunks:
                await to_thread.run_sync(sink, memoryview(chunk))
