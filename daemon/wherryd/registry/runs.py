"""What an object store keeps of runs: which object each verb reads or writes (``registry.base.Runs``).

Owns: the keys and forms of runs' records. Does not own: what goes into one (``commit.run_records``), what
several come to (``lineage``).

Records are put if absent and never changed, each under a number that its home gives once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from wherry.errors import StoreError
from wherryd.closing import closing
from wherryd.log import get_logger
from wherryd.model import RunRecord
from wherryd.registry import layout, records
from wherryd.registry.base import RecordStamp
from wherryd.registry.puts import Puts, stamp
from wherryd.stores.base import (
    ConditionalWrites,
    ObjectExists,
    ObjectStore,
)

_log = get_logger("registry")


class ObjectRuns:
    """Implements ``registry.base.Runs``.

    Args:
        store: read and listed.
        conditional: makes the writes.
        puts: is told of them.
    """

    def __init__(self, store: ObjectStore, conditional: ConditionalWrites, puts: Puts) -> None:
        self._store = store
        self._conditional = conditional
        self._puts = puts

    async def put_record(self, project: str, run: str, home: str, number: int, body: bytes) -> bool:
        key = layout.run_key(project, run, home, number)
        try:
            put = self._conditional.put_if_absent(key, body)
            await self._puts.noted(project, RecordStamp(key, ""), len(body), put)
        except ObjectExists:
            is_ours = (await self._store.get(key)).body == body
            if is_ours:  # whoever put it may have ended before it was durable
                await self._store.sync([key], layout.IDENTITY)
            return is_ours
        return True

    async def list_records(self, project: str, run: str = "") -> AsyncGenerator[RecordStamp, None]:
        prefix = layout.run_prefix(project, run) if run else layout.runs_prefix(project)
        async with closing(self._store.scan(prefix)) as stats:
            async for stat in stats:
                yield RecordStamp(stat.key, stamp(stat.etag, stat.size))

    async def read_records(self, keys: Sequence[str]) -> list[RunRecord | None]:
        found = await self._store.get_all(keys)
        return [_read(key, found[key].body) if key in found else None for key in keys]


def _read(key: str, body: bytes) -> RunRecord | None:
    """A record that can't be read hides no others."""
    try:
        return records.decode_run(key, body)
    except StoreError as error:
        _log.warning("what was written of a run can't be read", error=str(error))
        return None
