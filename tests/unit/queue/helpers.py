"""What the queue's tests share: a clock that stands still, small requests, a database in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from wherryd.model import Entry, Lane, Manifest, RunInfo, Source, State
from wherryd.queue import changes, knowledge
from wherryd.queue.base import NewRequest
from wherryd.queue.migrations import bring_up

ADDRESS = "file:///store"
LANE = Lane(ADDRESS, "cats", "model")
OTHER_LANE = Lane(ADDRESS, "cats", "data")
ELSEWHERE = Lane("s3://bucket", "cats", "model")
MANIFEST = Manifest(manifest="sha256:m", digest="sha256:d", entries=7, size=70)
CONTENT = "sha256:c"
#: The aliases that a test's request or a link to it may have.
ALL = ["best", "prod", "more", "a", "b", "c", "x", "y"]


class StillClock:
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.slept: list[float] = []
        self.while_asleep: Callable[[], None] = lambda: None
        self._tokens = 0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        self.while_asleep()

    def random(self) -> float:
        return 0.5

    def token(self) -> str:
        self._tokens += 1
        return f"{self._tokens:032x}"


def memory() -> sqlite3.Connection:
    """A database of the newest form that lives as long as its connection."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    bring_up(db)
    return db


def new_request(id_: str = "r1", **fields: Any) -> NewRequest:
    """A small request; ``fields`` replace some of its own."""
    plain = NewRequest(
        id=id_,
        body=b"body of " + id_.encode(),
        lane=LANE,
        type="model",
        description=None,
        metadata='{"step":1}',
        aliases=["best"],
        tags=["t"],
        inputs=["cats/pets:v3"],
        run=RunInfo("run-1", group="g"),
        client="wherry 0.1.0",
        folder=f"sessions/s1/{id_}",
        entries=1,
        size=3,
    )
    return msgspec.structs.replace(plain, **fields)


def new_entry(path: str, size: int = 3) -> Entry:
    """An entry whose bytes lie in the spool."""
    return Entry(path, size, None, Source("/spool/pack", 12))


def put(
    db: sqlite3.Connection, row: int, state: State, request: NewRequest | None = None
) -> NewRequest:
    """Bring a new request in ``row`` to ``state`` by the real changes."""
    request = request or new_request(f"r{row}")
    if state is State.HELD:
        request = msgspec.structs.replace(request, offline=True)
    changes.accept(db, row, request, 10.0)
    for step in _WAYS[state]:
        step(db, row)
    return request


def contact(db: sqlite3.Connection, address: str = ADDRESS, store_id: str = "store-1") -> None:
    """Let the home have met the store."""
    knowledge.set_store_id(db, address, store_id, True)


def _prepared(db: sqlite3.Connection, row: int) -> None:
    changes.prepared(db, row, MANIFEST, CONTENT)


def _uploaded(db: sqlite3.Connection, row: int) -> None:
    changes.uploaded(db, row, None)


def _sending(db: sqlite3.Connection, row: int) -> None:
    changes.attempt(db, row, 4, b"record of v4")


def _settled(db: sqlite3.Connection, row: int) -> None:
    changes.settle(db, row, 4)


def _done(db: sqlite3.Connection, row: int) -> None:
    changes.done(db, row, ALL, 20.0)


def _failed(db: sqlite3.Connection, row: int) -> None:
    changes.fail(db, row, "FileChanged", "it changed", 20.0)


def _cancelled(db: sqlite3.Connection, row: int) -> None:
    changes.cancel(db, row, 20.0)


_FORWARD = [_prepared, _uploaded, _sending, _settled, _done]

_WAYS: dict[State, list[Callable[[sqlite3.Connection, int], None]]] = {
    State.HELD: [],
    State.ACCEPTED: [],
    State.PREPARED: _FORWARD[:1],
    State.UPLOADED: _FORWARD[:2],
    State.SENDING: _FORWARD[:3],
    State.SETTLED: _FORWARD[:4],
    State.DONE: _FORWARD,
    State.FAILED: [_failed],
    State.CANCELLED: [_cancelled],
}
