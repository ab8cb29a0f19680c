"""``GetVersion``, ``ListVersions``, ``ListArtifacts``, ``ReadManifest``, ``ReadFiles``, ``ReadReferences``.

Owns: nothing. Does not own: reading (``read``).
"""

from __future__ import annotations

from contextlib import aclosing

from wherry.wire import wherry_pb2 as pb
from wherry.wire.names import check_name
from wherryd.clock import Clock
from wherryd.model import Lane
from wherryd.opened import OpenedStores
from wherryd.read.files import Chunk, Reader, Wanted, batches
from wherryd.read.references import Piece, ReferenceReader
from wherryd.read.versions import FoundArtifact, Versions, find_artifact, list_artifacts
from wherryd.references.table import Resolvers
from wherryd.registry.base import Registry
from wherryd.rpc.messages import (
    batch_message,
    chunk_message,
    piece_message,
    store_of,
    version_message,
    wanted_of,
)
from wherryd.rpc.service import Send


class ReadingCalls:
    """The calls.

    Args:
        default_store: for clients that name none.
        resolvers: of references.
    """

    def __init__(
        self, stores: OpenedStores, default_store: str, resolvers: Resolvers, clock: Clock
    ) -> None:
        self._stores = stores
        self._default_store = default_store
        self._resolvers = resolvers
        self._clock = clock

    async def get_version(self, request: pb.GetVersionRequest) -> pb.Version:
        """One version that is in a store."""
        lane = self._lane(request.store, request.project, request.name)
        found = await (await self._versions(lane, request.type)).get(request.version)
        return version_message(found, lane)

    async def list_versions(self, request: pb.ListVersionsRequest, send: Send) -> None:
        """An artifact's versions, newest first."""
        lane = self._lane(request.store, request.project, request.name)
        versions = await self._versions(lane, request.type)
        before = request.before if request.HasField("before") else None
        async with aclosing(versions.newest_first(before, request.limit or None)) as found:
            async for each in found:
                await send(version_message(each, lane))

    async def list_artifacts(self, request: pb.ListArtifactsRequest, send: Send) -> None:
        """The artifacts of a project."""
        project = check_name("project", request.project)
        registry = await self._registry(request.store)
        if request.name:
            await self._tell_artifact(registry, project, request, send)
            return
        async with aclosing(list_artifacts(registry, project, request.type)) as found:
            async for each in found:
                await send(_artifact_message(project, each))

    async def _tell_artifact(
        self, registry: Registry, project: str, request: pb.ListArtifactsRequest, send: Send
    ) -> None:
        name = check_name("artifact", request.name)
        found = await find_artifact(registry, project, name, request.type)
        if found is None:
            return
        before = request.before if request.HasField("before") else None
        counted = await Versions(registry, project, name).count(before)
        message = _artifact_message(project, found)
        message.versions = counted.versions
        message.aliases.extend(counted.aliases)
        await send(message)

    async def read_manifest(self, request: pb.ReadManifestRequest, send: Send) -> None:
        """A version's entries, in batches."""
        project = check_name("project", request.project)
        registry = await self._registry(request.store)
        async with aclosing(batches(registry, project, request.manifest, Wanted())) as found:
            async for batch in found:
                await send(batch_message(batch))

    async def read_references(self, request: pb.ReadReferencesRequest, send: Send) -> None:
        """The bytes of references, or whether they are what was logged."""

        async def send_piece(piece: Piece) -> None:
            await send(piece_message(piece))

        reader = ReferenceReader(self._resolvers, self._clock, send_piece)
        wanted = [wanted_of(each) for each in request.references]
        await reader.read(wanted, check_only=request.check_only)

    async def list_schemes(self, request: pb.ListSchemesRequest) -> pb.ListSchemesReply:
        """The schemes of references that can be resolved."""
        del request
        return pb.ListSchemesReply(schemes=await self._resolvers.schemes())

    async def read_files(self, request: pb.ReadFilesRequest, send: Send) -> None:
        """The bytes of entries."""
        project = check_name("project", request.project)

        async def send_chunk(chunk: Chunk) -> None:
            await send(chunk_message(chunk))

        reader = Reader(await self._registry(request.store), project, send_chunk)
        await reader.read(request.manifest, Wanted(request.paths))

    def _lane(self, store: str, project: str, name: str) -> Lane:
        return Lane(
            store_of(store, self._default_store),
            check_name("project", project),
            check_name("artifact", name),
        )

    async def _versions(self, lane: Lane, type_: str) -> Versions:
        return Versions(await self._registry(lane.store), lane.project, lane.name, type_)

    async def _registry(self, store: str) -> Registry:
        return await self._stores.registry(store_of(store, self._default_store))


def _artifact_message(project: str, found: FoundArtifact) -> pb.ArtifactName:
    return pb.ArtifactName(project=project, name=found.name, type=found.type, latest=found.latest)
