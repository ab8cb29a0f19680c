"""Wakes those who wait for a change. Ground floor: no I/O.

Owns: who is waiting for which topic. Does not own: what changed; a woken waiter looks in the queue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import anyio


class Watch:
    """Remembers that its topics had news since it looked last."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        """Let the next ``wait_news`` return at once."""
        self._event.set()

    async def wait_news(self) -> None:
        """Return when there was news since the last return; clears before its caller looks."""
        await self._event.wait()
        self._event = anyio.Event()


class News:
    """Topics are states (``model.State``), request ids and lanes.

    The queue tells a state whenever a request has entered it, durably; a request's id at every change of
    its row; and a lane when a request in it was uploaded, or has left the line without a version.
    """

    def __init__(self) -> None:
        # In the order in which they came: a set's order is another one in each process.
        self._watches: defaultdict[Hashable, dict[Watch, None]] = defaultdict(dict)

    def tell(self, *topics: Hashable) -> None:
        """Wake those who watch one of the topics."""
        for topic in topics:
            for watch in self._watches.get(topic, ()):
                watch.wake()

    @contextmanager
    def watch(self, *topics: Hashable) -> Iterator[Watch]:
        """Watch topics; the watch starts woken, so that the first look misses nothing.

        A topic may be named twice.
        """
        watch = Watch()
        watch.wake()
        each = dict.fromkeys(topics)
        for topic in each:
            self._watches[topic][watch] = None
        try:
            yield watch
        finally:
            for topic in each:
                del self._watches[topic][watch]
                if not self._watches[topic]:
                    del self._watches[topic]
