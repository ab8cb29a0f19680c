"""The drafts of an object store: which object each verb reads or writes (``registry.base.Drafts``).

Owns: the keys and forms of parts, marks and ``sealed.json``. Does not own: what follows from them
(``commit``), the store's identity (``objects``).

All of these are put if absent and never changed, so that each verb may be done twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from wherry.errors import StoreDamaged, StoreUnavailable
from wherryd.model import DraftMark, DraftPart
from wherryd.registry import layout, records
from wherryd.registry.base import DraftSeen
from wherryd.registry.records import damaged
from wherryd.stores.base import ConditionalWrites, Object, ObjectExists, ObjectStore

GetIn = Callable[[Sequence[str], str], Awaitable[Mapping[str, Object]]]
"""Reads objects together with the store's id, which has to be the one that is given."""

Sync = Callable[[Sequence[str], str], Awaitable[None]]
"""Makes objects that are there survive a power loss, likewise."""


class ObjectDrafts:
    """Implements ``registry.base.Drafts``.

    Args:
        store: listed.
        conditional: makes the writes.
    """

    def __init__(
        self, store: ObjectStore, conditional: ConditionalWrites, get_in: GetIn, sync: Sync
    ) -> None:
        self._store = store
        self._conditional = conditional
        self._get_in = get_in
        self._sync = sync

    async def put_part(self, project: str, draft: str, request: str, part: bytes) -> bool:
        return await self._put_once(layout.part_key(project, draft, request), part)

    async def look(
        self,
        project: str,
        draft: str,
        in_store: str,
        part: str | None = None,
        *,
        is_lasting: bool = False,
    ) -> DraftSeen:
        own = [layout.part_key(project, draft, part)] if part else []
        sealing = layout.sealing_key(project, draft)
        sealed = layout.sealed_key(project, draft)
        conflict = layout.conflict_key(project, draft)
        found = dict(await self._get_in([*own, sealing], in_store))
        if sealing in found:  # the others come after it
            found |= await self._get_in([sealed, conflict], in_store)
        # Whoever put it may have ended before it was durable.
        unsure = (*(() if is_lasting else own), sealing, sealed)
        await self._make_last([key for key in unsure if key in found], in_store)
        has_conflict = conflict in found and sealed not in found
        return DraftSeen(
            has_part=any(key in found for key in own),
            is_sealing=sealing in found,
            sealing=_mark(sealing, found[sealing]).request if sealing in found else "",
            sealed=records.decode_sealed(sealed, found[sealed].body) if sealed in found else None,
            conflict=_mark(conflict, found[conflict]).reason if has_conflict else "",
        )

    async def begin_sealing(self, project: str, draft: str, mark: bytes) -> None:
        await self._put_once(layout.sealing_key(project, draft), mark)

    async def list_parts(self, project: str, draft: str) -> list[str]:
        prefix, parts = layout.draft_prefix(project, draft), layout.parts_prefix(project, draft)
        keys = [stat.key async for stat in self._store.list(prefix)]
        if layout.sealing_key(project, draft) not in keys:
            raise StoreUnavailable(f"{prefix} was listed without its sealing.json, which is there")
        found = [layout.parse_part(key) for key in keys if key.startswith(parts)]
        return sorted(request for request in found if request is not None)

    async def read_parts(
        self, project: str, draft: str, requests: Sequence[str], in_store: str
    ) -> list[DraftPart]:
        keys = [layout.part_key(project, draft, request) for request in requests]
        found = await self._get_in(keys, in_store)
        parts = []
        for key, request in zip(keys, requests, strict=True):
            if key not in found:
                raise damaged(key, "it was listed, and is gone")
            part = records.decode_part(key, found[key].body)
            if part.request != request:
                raise damaged(key, f"it is the part of {part.request}")
            parts.append(part)
        return parts

    async def put_sealed(self, project: str, draft: str, sealed: bytes) -> None:
        await self._put_once(layout.sealed_key(project, draft), sealed)

    async def put_conflict(self, project: str, draft: str, mark: bytes) -> None:
        await self._put_once(layout.conflict_key(project, draft), mark)

    async def _put_once(self, key: str, body: bytes) -> bool:
        try:
            await self._conditional.put_if_absent(key, body)
        except ObjectExists:
            return False
        return True

    async def _make_last(self, keys: Sequence[str], in_store: str) -> None:
        if keys:
            await self._sync(keys, in_store)


def _mark(key: str, found: Object) -> DraftMark:
    """A mark counts by being there, whatever it says."""
    try:
        mark = records.decode_mark(key, found.body)
    except StoreDamaged as error:
        return DraftMark(records.FORMAT, "", "", "", "", str(error))
    return mark if mark.reason else msgspec.structs.replace(mark, reason="a finish has failed")
