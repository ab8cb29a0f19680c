from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.queue.helpers import StillClock
from wherryd.news import News
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue


@pytest.fixture
def clock() -> StillClock:
    """A clock that stands still."""
    return StillClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue lies."""
    return tmp_path / "queue.db"


@pytest.fixture
async def database(path: Path, clock: StillClock) -> AsyncIterator[ThreadDatabase]:
    """A database with its threads."""
    database = await ThreadDatabase.open(path, clock, busy_timeout_s=0.01)
    yield database
    await database.aclose()


@pytest.fixture
async def queue(database: ThreadDatabase, clock: StillClock) -> AsyncIterator[SqliteQueue]:
    """A queue on it."""
    queue = await SqliteQueue.open(database, News(), clock)
    yield queue
    await queue.aclose()
