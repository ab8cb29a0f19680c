"""What users say of versions that are there: their aliases, description, metadata and tags; deleting them.

Owns: doing it in the store, at once, and again where somebody else did something meanwhile. Does not own:
what an alias becomes (``aliases``), aliases that a log gives (``naming``), who asks (``rpc``).

Each of these is one conditional write, and done twice is done: a client repeats all of it when the daemon
ends in the middle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec

from wherry.errors import NotFoundError, UsageError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock, rfc3339
from wherryd.commit.aliases import FORMAT, moved_by_user
from wherryd.model import Edit, Lane, Tombstone, VersionRecord
from wherryd.registry.base import Registry
from wherryd.stores.base import EtagMismatch, ObjectExists, WriteConflict

#: Of the pause before another try, at most.
SHORT_S = 0.2

_BEFORE_EDIT = failpoint("commit.edit.before-write")
_AFTER_EDIT = failpoint("commit.edit.after-write")
_BEFORE_MOVE = failpoint("commit.user-alias.before-write")
_AFTER_MOVE = failpoint("commit.user-alias.after-write")
_BEFORE_BURY = failpoint("commit.delete.before-write")
_AFTER_BURY = failpoint("commit.delete.after-write")

_RACED = (EtagMismatch, ObjectExists, WriteConflict)


class Changes(msgspec.Struct, frozen=True):
    """What of a version becomes another; None and () leave it as it is."""

    description: tuple[str | None] | None = None
    metadata: dict[str, object] | None = None
    tags: list[str] | None = None
    add_aliases: Sequence[str] = ()
    remove_aliases: Sequence[str] = ()

    @property
    def has_edit(self) -> bool:
        """Whether anything but aliases changes."""
        return not (self.description is None and self.metadata is None and self.tags is None)


class Editor:
    """Does it, for one artifact."""

    def __init__(self, lane: Lane, registry: Registry, clock: Clock) -> None:
        self._lane = lane
        self._registry = registry
        self._clock = clock

    async def change(self, version: int, changes: Changes) -> None:
        """Change a version. Raises ``NotFoundError`` where there is none, ``StoreError``."""
        record = await self._read(version)
        if changes.has_edit:
            await self._edit(record, changes)
        if changes.remove_aliases or changes.add_aliases:
            highest = await self._highest()
            for alias in changes.remove_aliases:
                await self._move(alias, None, highest, only_from=version)
            for alias in changes.add_aliases:
                await self._move(alias, version, highest)

    async def move(self, alias: str, version: int | None) -> None:
        """Move an alias, or (None) remove it, wherever it is. Raises ``StoreError``."""
        await self._move(alias, version, await self._highest())

    async def _move(
        self, alias: str, version: int | None, highest: int, only_from: int | None = None
    ) -> None:
        """The same, if it is at the version ``only_from``; ``highest`` was listed after the user asked."""
        lane = self._lane
        while True:
            stored = await self._registry.read_alias(lane.project, lane.name, alias)
            there = stored.alias if stored else None
            if only_from is not None and (there is None or there.version != only_from):
                return
            moved = moved_by_user(there, alias, version, highest, self._clock.token())
            etag = stored.etag if stored else None
            _BEFORE_MOVE()
            if await self._tried(self._registry.write_alias(lane.project, lane.name, moved, etag)):
                _AFTER_MOVE()
                return

    async def delete(self, version: int, *, with_aliases: bool) -> None:
        """Put a tombstone in a version's place; its bytes stay. One that is deleted is deleted.

        Args:
            with_aliases: whether one that has aliases may be deleted; those then have no version.

        Raises:
            NotFoundError: there never was such a version.
            UsageError: it has aliases.
            StoreError.
        """
        lane = self._lane
        while True:
            stored = await self._registry.read_version(lane.project, lane.name, version)
            if stored is None:
                raise self._missing(version)
            record = stored.record
            if isinstance(record, Tombstone):
                return
            if not with_aliases:
                await self._check_no_aliases(version)
            tombstone = Tombstone(
                format=record.format,
                version=version,
                request=record.request,
                digest=record.digest,
                content=record.content,
                deleted=rfc3339(self._clock.now()),
            )
            _BEFORE_BURY()
            bury = self._registry.bury_version(
                lane.project, lane.name, version, tombstone, stored.etag
            )
            if await self._tried(bury):
                _AFTER_BURY()
                return

    async def _edit(self, record: VersionRecord, changes: Changes) -> None:
        lane = self._lane
        while True:
            stored = await self._registry.read_edit(lane.project, lane.name, record.version)
            before: VersionRecord | Edit = stored.edit if stored else record
            edit = Edit(
                format=FORMAT,
                version=record.version,
                description=before.description
                if changes.description is None
                else changes.description[0],
                metadata=before.metadata if changes.metadata is None else changes.metadata,
                edited=rfc3339(self._clock.now()),
                write=self._clock.token(),
                tags=before.tags if changes.tags is None else changes.tags,
            )
            etag = stored.etag if stored else None
            _BEFORE_EDIT()
            if await self._tried(self._registry.write_edit(lane.project, lane.name, edit, etag)):
                _AFTER_EDIT()
                return

    async def _read(self, version: int) -> VersionRecord:
        stored = await self._registry.read_version(self._lane.project, self._lane.name, version)
        if stored is None or not isinstance(stored.record, VersionRecord):
            raise self._missing(version)
        return stored.record

    async def _highest(self) -> int:
        stamps = await self._registry.list_versions(self._lane.project, self._lane.name)
        if not stamps:
            raise NotFoundError(f"{self._title} has no version that could have an alias")
        return stamps[-1].version

    async def _check_no_aliases(self, version: int) -> None:
        aliases = await self._registry.list_aliases(self._lane.project, self._lane.name)
        names = sorted(alias.alias for alias in aliases if alias.version == version)
        if names:
            raise UsageError(
                f"{self._title}:v{version} is called {', '.join(names)}",
                hint="Give the aliases to another version, or delete it with delete_aliases=True.",
            )

    def _missing(self, version: int) -> NotFoundError:
        return NotFoundError(f"{self._title} has no version v{version}")

    @property
    def _title(self) -> str:
        return f"{self._lane.project}/{self._lane.name}"

    async def _tried(self, write: Awaitable[None]) -> bool:
        """Whether a conditional write was made; False, after a pause, where somebody else came first."""
        try:
            await write
        except _RACED:
            await self._clock.sleep(self._clock.random() * SHORT_S)
            return False
        return True
