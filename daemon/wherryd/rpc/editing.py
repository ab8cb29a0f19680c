"""``EditVersion`` and ``DeleteVersion``.

Owns: what a request may say. Does not own: doing it (``commit.editing``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from wherry.errors import UsageError
from wherry.wire import wherry_pb2 as pb
from wherry.wire.names import check_moved_alias, check_name, check_text
from wherryd.clock import Clock
from wherryd.commit.editing import Changes, Editor
from wherryd.model import Lane
from wherryd.read.versions import Versions
from wherryd.registry.base import Registry
from wherryd.rpc.messages import metadata_of, store_of, version_message

ForWriting = Callable[[str], Awaitable[Registry]]


class EditingCalls:
    """The calls.

    Args:
        for_writing: gives the registry of a store that is known to be fit for writing.
        default_store: for clients that name none.
    """

    def __init__(self, for_writing: ForWriting, default_store: str, clock: Clock) -> None:
        self._for_writing = for_writing
        self._default_store = default_store
        self._clock = clock

    async def edit_version(self, request: pb.EditVersionRequest) -> pb.Version:
        """Change a version; it is told as it is then."""
        lane, changes = self._lane(request), _changes_of(request)
        registry = await self._for_writing(lane.store)
        await Editor(lane, registry, self._clock).change(request.version, changes)
        versions = Versions(registry, lane.project, lane.name)
        return version_message(await versions.get(f"v{request.version}"), lane)

    async def delete_version(self, request: pb.DeleteVersionRequest) -> pb.DeleteVersionReply:
        """Delete a version."""
        lane = self._lane(request)
        editor = Editor(lane, await self._for_writing(lane.store), self._clock)
        await editor.delete(request.version, with_aliases=request.with_aliases)
        return pb.DeleteVersionReply()

    def _lane(self, request: pb.EditVersionRequest | pb.DeleteVersionRequest) -> Lane:
        if request.version < 0:
            raise UsageError(f"there is no version {request.version}")
        return Lane(
            store_of(request.store, self._default_store),
            check_name("project", request.project),
            check_name("artifact", request.name),
        )


def _changes_of(request: pb.EditVersionRequest) -> Changes:
    said = request.description if request.HasField("description") else None
    text = said.text if said is not None and said.HasField("text") else None
    return Changes(
        description=None if said is None else (check_text("description", text),),
        metadata=metadata_of(request.metadata) if request.HasField("metadata") else None,
        tags=[check_name("tag", tag) for tag in request.tags.tags]
        if request.HasField("tags")
        else None,
        add_aliases=[check_moved_alias(alias) for alias in request.add_aliases],
        remove_aliases=[check_moved_alias(alias) for alias in request.remove_aliases],
    )
