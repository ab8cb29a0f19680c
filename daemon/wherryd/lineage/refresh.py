"""Brings an index up to what is in its store.

Owns: which records are read again: those that are new, and those whose object is another than was read.
Does not own: the index's tables (``index``), whether a look is needed (``tracer``, ``looks``).

One listing shows all versions of a project, another one all records of its runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from wherry.errors import StoreDamaged, StoreError
from wherryd.closing import closing
from wherryd.lineage import index
from wherryd.lineage.index import Index
from wherryd.log import get_logger
from wherryd.model import RunRecord, Tombstone, VersionRecord
from wherryd.registry.base import RecordStamp, Registry, Since, VersionStamp
from wherryd.together import all_of

#: Records that are asked for in one question of the registry; and such questions at once.
_IN_ONE = 16
_AT_ONCE = 4

_T = TypeVar("_T")
_log = get_logger("lineage")
_Read = dict[VersionStamp, VersionRecord | Tombstone | None]


async def refresh(found: Index, registry: Registry, store_id: str, project: str) -> int:
    """Read what came since, and forget what is gone; how many records there are.

    Raises ``StoreError``; ``StoreChanged`` where another store lies there meanwhile. What was read until
    then is kept.
    """
    versions: dict[tuple[str, int], VersionStamp] = {}
    records: dict[str, RecordStamp] = {}

    async def list_versions() -> None:
        async with closing(registry.list_all_versions(project)) as listed:
            versions.update({(each.name, each.version): each async for each in listed})

    async def list_records() -> None:
        records.update(await _listed(registry, project))

    await all_of(list_versions, list_records)
    known = await found.run(partial(index.known_versions, project=project))
    await found.run(
        partial(index.forget_versions, project=project, gone=known.keys() - versions.keys())
    )
    new = [each for place, each in versions.items() if known.get(place) != each.stamp]
    await _take_versions(found, registry, store_id, project, new)
    seen = await found.run(partial(index.known_records, place=project))
    await found.run(partial(index.forget_records, gone=seen.keys() - records.keys()))
    await _take_records(found, registry, project, _other(records.values(), seen))
    return len(versions) + len(records)


async def refresh_run(found: Index, registry: Registry, project: str, run: str) -> None:
    """Read what came since of one run's own records. Raises ``StoreError``."""
    listed = await _listed(registry, project, run)
    known = await found.run(partial(index.stamps_of, keys=listed.keys()))
    await _take_records(found, registry, project, _other(listed.values(), known))


async def take_up(
    found: Index, registry: Registry, store_id: str, project: str, since: Since
) -> None:
    """Read what this daemon has put below a project. Raises as ``refresh``; it can be done again then."""
    puts = since.puts[:]
    versions = {(put.name, put.version): put for put in puts if isinstance(put, VersionStamp)}
    await _take_versions(found, registry, store_id, project, [*versions.values()])
    records = {put.key: put for put in puts if isinstance(put, RecordStamp)}
    await _take_records(found, registry, project, [*records.values()])
    since.drop(len(puts))


async def _listed(registry: Registry, project: str, run: str = "") -> dict[str, RecordStamp]:
    async with closing(registry.runs.list_records(project, run)) as listed:
        return {each.key: each async for each in listed}


def _other(there: Iterable[RecordStamp], known: Mapping[str, str]) -> list[RecordStamp]:
    """Those whose object is another than was read."""
    return [each for each in there if known.get(each.key) != each.stamp]


async def _take_versions(
    found: Index, registry: Registry, store_id: str, project: str, new: Sequence[VersionStamp]
) -> None:
    for some in _in_parts(_by_name(new), _AT_ONCE):
        reads = [partial(_read_versions, registry, store_id, project, stamps) for stamps in some]
        read: _Read = {}
        for part in await all_of(*reads):
            read |= part
        await found.run(partial(index.write_versions, project=project, read=read))


async def _read_versions(
    registry: Registry, store_id: str, project: str, stamps: Sequence[VersionStamp]
) -> _Read:
    numbers = [stamp.version for stamp in stamps]
    try:
        stored = await registry.read_versions(project, stamps[0].name, numbers, store_id)
    except StoreError as error:
        if type(error) not in (StoreDamaged, StoreError):
            raise
        # One record that is damaged, or a newer Wherry's: it hides no others.
        if len(stamps) == 1:
            _log.warning("a version's record can't be read", error=str(error))
            return {stamps[0]: None}
        each_alone = [partial(_read_versions, registry, store_id, project, [s]) for s in stamps]
        return {
            stamp: record for part in await all_of(*each_alone) for stamp, record in part.items()
        }
    return {
        stamp: each.record for stamp, each in zip(stamps, stored, strict=True) if each is not None
    }


async def _take_records(
    found: Index, registry: Registry, project: str, new: Sequence[RecordStamp]
) -> None:
    for some in _in_parts([*_in_parts(new, _IN_ONE)], _AT_ONCE):
        reads = [
            partial(registry.runs.read_records, [stamp.key for stamp in stamps]) for stamps in some
        ]
        read: dict[RecordStamp, RunRecord | None] = {}
        for stamps, records in zip(some, await all_of(*reads), strict=True):
            read |= dict(zip(stamps, records, strict=True))
        await found.run(partial(index.write_records, place=project, read=read))


def _by_name(stamps: Sequence[VersionStamp]) -> list[list[VersionStamp]]:
    """What may be asked for in one question: a few versions of one artifact."""
    names: defaultdict[str, list[VersionStamp]] = defaultdict(list)
    for stamp in stamps:
        names[stamp.name].append(stamp)
    return [part for named in names.values() for part in _in_parts(named, _IN_ONE)]


def _in_parts(items: Sequence[_T], count: int) -> Iterator[list[_T]]:
    left = iter(items)
    while part := [*islice(left, count)]:
        yield part
