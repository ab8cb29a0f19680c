"""Versions and artifacts that are in a store.

Owns: what ``v3``, an alias and ``latest`` mean. Does not own: bytes (``files``), requests that are not
committed (``queue``). Nothing is kept between two calls.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice

import msgspec

from wherry.errors import NotFoundError, StoreDamaged, TypeTaken
from wherry.wire.names import is_version
from wherryd.closing import closing
from wherryd.log import get_logger
from wherryd.model import Alias, Edit, VersionRecord
from wherryd.registry.base import Registry
from wherryd.together import all_of

READ_AT_ONCE = 16
#: No tombstone is larger (docs/store-format.md), and few records are as small: so a listing tells them apart.
TOMBSTONE_BYTES = 500

_log = get_logger("read")


class FoundVersion(msgspec.Struct, frozen=True):
    """A version, and the aliases that it bears now."""

    record: VersionRecord  # with description, metadata and tags as last saved
    aliases: list[str]
    edited: str = ""  # when those were saved; "": never


class FoundArtifact(msgspec.Struct, frozen=True):
    """An artifact's name."""

    name: str
    type: str
    latest: int  # -1 where every version is deleted


class Counted(msgspec.Struct, frozen=True):
    """What an artifact has, without a look into its versions."""

    versions: int  # that are not deleted
    aliases: list[str]  # that name one of them


class Versions:
    """One artifact's versions.

    Args:
        type_: "" for any.
    """

    def __init__(self, registry: Registry, project: str, name: str, type_: str = "") -> None:
        self._registry = registry
        self._project = project
        self._name = name
        self._type = type_

    async def get(self, version: str) -> FoundVersion:
        """Find one version.

        Args:
            version: ``v3``, an alias, or "" for ``latest``: the highest that is not deleted.

        Raises:
            NotFoundError: no such artifact, version or alias.
            TypeTaken: the artifact is of another type than was asked for.
        """
        await self._check_type()
        numbers = await self._numbers()
        if version in ("", "latest"):
            record = await self._latest(numbers)
        else:
            record = await self._read(await self._number_of(version))
        if record is None:
            raise NotFoundError(f"{self._title} has no version {version or 'latest'}")
        latest = record if version in ("", "latest") else await self._latest(numbers)
        aliases = await self._registry.list_aliases(self._project, self._name)
        edit = await self._edit(record.version, numbers)
        return _found(record, edit, aliases, latest.version if latest else -1)

    async def newest_first(
        self, before: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[FoundVersion, None]:
        """The versions that are not deleted; raises as ``get``.

        Args:
            before: only lower numbers; None: all.
            limit: so many at most, and hardly more are read; None: all.
        """
        await self._check_type()
        numbers = await self._numbers()
        aliases = await self._registry.list_aliases(self._project, self._name)
        first = await self._latest(numbers) if before is not None else None
        latest = first.version if first else -1
        wanted = {n: edited for n, edited in numbers.items() if before is None or n < before}
        async with closing(self._records(wanted, limit)) as records:
            async for record, edit in records:
                latest = max(latest, record.version)
                yield _found(record, edit, aliases, latest)

    async def count(self, before: int | None = None) -> Counted:
        """How many versions are not deleted, of all or those of lower numbers; and all aliases.

        One listing tells, but for what is as small as a tombstone, which is read.
        """
        stamps = await self._registry.list_versions(self._project, self._name)
        small = [stamp.version for stamp in stamps if stamp.size <= TOMBSTONE_BYTES]
        live = {stamp.version for stamp in stamps if stamp.size > TOMBSTONE_BYTES}
        async with closing(self._records(dict.fromkeys(small, False))) as records:
            live |= {record.version async for record, _ in records}
        aliases = await self._registry.list_aliases(self._project, self._name)
        names = sorted(alias.alias for alias in aliases if alias.version in live)
        counted = sum(before is None or number < before for number in live)
        return Counted(counted, [*names, "latest"] if live else names)

    async def latest_number(self) -> int:
        """The highest number that is not deleted; -1 where there is none."""
        latest = await self._latest(await self._numbers())
        return latest.version if latest else -1

    @property
    def _title(self) -> str:
        return f"{self._project}/{self._name}"

    async def _check_type(self) -> None:
        type_ = await self._registry.read_type(self._project, self._name)
        if type_ is None:
            raise NotFoundError(f"there is no artifact {self._title}")
        if self._type and type_ != self._type:
            raise TypeTaken(f"{self._title} is of type {type_!r}, not {self._type!r}")

    async def _numbers(self) -> dict[int, bool]:
        """Numbers with a record or a tombstone, newest first, and whether something of it was saved since."""
        stamps = await self._registry.list_versions(self._project, self._name)
        return {stamp.version: stamp.is_edited for stamp in reversed(stamps)}

    async def _edit(self, number: int, numbers: Mapping[int, bool]) -> Edit | None:
        if not numbers.get(number, True):
            return None
        stored = await self._registry.read_edit(self._project, self._name, number)
        return stored.edit if stored else None

    async def _edit_in_a_list(self, number: int, numbers: Mapping[int, bool]) -> Edit | None:
        """One that can't be read is told of where its version is asked for, and hides no others."""
        try:
            return await self._edit(number, numbers)
        except StoreDamaged as error:
            _log.warning("what was saved of a version can't be read", error=str(error))
            return None

    async def _number_of(self, version: str) -> int:
        if is_version(version):
            return int(version[1:])
        stored = await self._registry.read_alias(self._project, self._name, version)
        if stored is None or stored.alias.version is None:
            raise NotFoundError(f"{self._title} has no alias {version!r}")
        return stored.alias.version

    async def _read(self, number: int) -> VersionRecord | None:
        stored = await self._registry.read_version(self._project, self._name, number)
        if stored is None or not isinstance(stored.record, VersionRecord):
            return None
        return stored.record

    async def _latest(self, numbers: Iterable[int]) -> VersionRecord | None:
        """The first that is not deleted: most likely the very first; else a few are read at once."""
        left, count = iter(numbers), 1
        while chunk := [*islice(left, count)]:
            for record in await all_of(*(partial(self._read, number) for number in chunk)):
                if record is not None:
                    return record
            count = READ_AT_ONCE
        return None

    async def _records(
        self, numbers: Mapping[int, bool], limit: int | None = None
    ) -> AsyncGenerator[tuple[VersionRecord, Edit | None], None]:
        """So many of them as are not deleted; no more are read at once than may be wanted."""

        async def read(number: int) -> tuple[VersionRecord | None, Edit | None]:
            return await self._read(number), await self._edit_in_a_list(number, numbers)

        left, wanted = iter(numbers), len(numbers) if limit is None else limit
        count = min(READ_AT_ONCE, wanted)
        while wanted and (chunk := [*islice(left, count)]):
            count = READ_AT_ONCE  # among tombstones
            for record, edit in await all_of(*(partial(read, number) for number in chunk)):
                if record is not None and wanted:
                    wanted -= 1
                    count = min(READ_AT_ONCE, wanted)
                    yield record, edit


async def list_artifacts(
    registry: Registry, project: str, type_: str = ""
) -> AsyncGenerator[FoundArtifact, None]:
    """List the artifacts of a project, by name; of one type, or ("") of all."""
    async with closing(registry.list_artifacts(project)) as names:
        async for chunk in _chunks(names):
            looks = (partial(find_artifact, registry, project, name, type_) for name in chunk)
            for found in await all_of(*looks):
                if found is not None:
                    yield found


async def find_artifact(
    registry: Registry, project: str, name: str, type_: str = ""
) -> FoundArtifact | None:
    """Find an artifact, of one type or ("") of any; None where there is none."""
    claimed = await registry.read_type(project, name)
    if claimed is None or type_ not in ("", claimed):
        return None
    return FoundArtifact(name, claimed, await Versions(registry, project, name).latest_number())


async def _chunks(names: AsyncIterator[str]) -> AsyncGenerator[list[str], None]:
    chunk: list[str] = []
    async for name in names:
        chunk.append(name)
        if len(chunk) == READ_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _found(
    record: VersionRecord, edit: Edit | None, aliases: Sequence[Alias], latest: int
) -> FoundVersion:
    names = sorted(alias.alias for alias in aliases if alias.version == record.version)
    if record.version == latest:
        names.append("latest")
    if edit is None:
        return FoundVersion(record, names)
    edited = msgspec.structs.replace(
        record, description=edit.description, metadata=edit.metadata, tags=edit.tags
    )
    return FoundVersion(edited, names, edit.edited)
