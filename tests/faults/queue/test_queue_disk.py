from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Of a process whose files can't grow for a while: the commit itself fails, in the write of the log.
PROGRAM = """
import asyncio, resource, sys
from pathlib import Path
from tests.faults.queue.actor import request_for
from wherry.errors import QueueError
from wherryd.clock import SystemClock
from wherryd.model import State
from wherryd.news import News
from wherryd.queue.base import Filter
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue

async def main(path):
    database = await ThreadDatabase.open(path, SystemClock())
    queue = await SqliteQueue.open(database, News(), SystemClock())
    await queue.accept(queue.new_row(), request_for("before"))
    log = path.with_name("queue.db-wal")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, most))
    calls = [queue.accept(queue.new_row(), request_for(f"during {n}")) for n in range(3)]
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, QueueError), answer
    assert [r.id for r in await queue.find(Filter())] == ["before"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    places = [(await queue.accept(queue.new_row(), request_for(f"after {n}"))).place for n in range(3)]
    assert places == [2, 3, 4], places
    assert (await queue.counts())[State.ACCEPTED] == 4
    await queue.aclose()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_commit_that_finds_no_room(tmp_path: Path) -> None:
    """When the disk takes no more, callers get an error, nothing is half-queued, and later calls work."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "queue.db")],
        cwd=Path(__file__).parents[3],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
