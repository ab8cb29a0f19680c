"""The protos' messages as the daemon's plain data, and back.

Owns: which field is which, and that what comes in is in range. Does not own: what is done with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET

from wherry.errors import BadMetadata, BadName, BadURI, ProtocolError, UsageError
from wherry.wire import wherry_pb2 as pb
from wherry.wire.address import normalize_store
from wherry.wire.canonical import MAX_METADATA_BYTES, draft_id
from wherry.wire.names import check_alias, check_name, check_path
from wherryd.capture.intake import Header
from wherryd.capture.room import Fullness
from wherryd.clock import rfc3339
from wherryd.hashing import sha256_of
from wherryd.model import (
    Base,
    Entry,
    FileStat,
    Lane,
    Lookup,
    ManifestEntry,
    Reference,
    RequestKind,
    RunInfo,
    Source,
    State,
)
from wherryd.public import public_name
from wherryd.queue.base import Request
from wherryd.read.delivery import Place
from wherryd.read.files import Chunk
from wherryd.read.references import Piece, Wanted
from wherryd.read.versions import FoundVersion
from wherryd.references.base import Seen

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_MOST = 2**63 - 1

#: Of an entry; clients send no more than a few KiB so.
MAX_DATA_BYTES = 1 << 20

ENDED = (State.DONE, State.FAILED, State.CANCELLED)
_SENT = (State.UPLOADED, State.SENDING, State.SETTLED, State.DONE)


# ── in ─────────────────────────────────────────────────────────────────────────────────────────
def store_of(address: str, default: str) -> str:
    """The address of a store, normalized; ``default`` where the client names none."""
    return normalize_store(address, {}) if address else default


def run_of(run: pb.Run) -> RunInfo:
    """A run, as records have it."""
    entity = check_name("entity", run.entity) if run.entity else UNSET
    return RunInfo(run.id, run.name or None, run.group or None, run.job_type or None, entity)


def run_message(run: RunInfo, project: str) -> pb.Run:
    """A run, as it is told."""
    return pb.Run(
        id=run.id,
        name=run.name or "",
        group=run.group or "",
        job_type=run.job_type or "",
        project=project,
        entity=run.entity or "",
    )


def header_of(header: pb.LogHeader, default_store: str) -> Header:
    """A request's header; raises a ``UsageError`` or ``ProtocolError`` for what is out of range."""
    if not _UUID.fullmatch(header.request_id):
        raise ProtocolError(f"{header.request_id!r} is no request id")
    store = store_of(header.store, default_store)
    project, name = check_name("project", header.project), check_name("artifact", header.name)
    kind, draft = _draft_of(header)
    base = _base_of(header, store, default_store) if header.HasField("base") else None
    return Header(
        id=header.request_id,
        lane=Lane(store, project, name),
        type=check_name("type", header.type),
        description=header.description if header.HasField("description") else None,
        metadata=_metadata_of(header.metadata),
        aliases=[_alias_of(alias) for alias in header.aliases],
        tags=list(header.tags),
        inputs=list(header.inputs),
        run=run_of(header.run),
        client=header.client,
        folder=_folder_of(header),
        offline=header.offline,
        power=header.power,
        kind=kind,
        draft=draft,
        newest=header.newest,
        base=base,
    )


def _draft_of(header: pb.LogHeader) -> tuple[RequestKind, str]:
    """What a request asks for, and the draft that it is about; "" for none."""
    try:
        kind = RequestKind(header.kind or RequestKind.LOG)
    except ValueError as exc:
        raise ProtocolError(f"there are no requests of the kind {header.kind!r}") from exc
    if kind is RequestKind.LOG:
        return kind, ""
    if not header.distributed_id:
        raise ProtocolError(f"this {kind} names no draft")
    return kind, draft_id(header.project, header.name, header.distributed_id)


def _base_of(header: pb.LogHeader, store: str, default_store: str) -> Base:
    """What a request changes: nothing is fetched or sent for it, so it lies in the same project and store."""
    base = header.base
    if header.kind:
        raise ProtocolError(f"a request of the kind {header.kind!r} has no base")
    if not base.ByteSize():  # whichever version comes before its own
        return Base()
    if not _DIGEST.fullmatch(base.manifest) or not 0 <= base.version <= _MOST:
        raise ProtocolError(f"v{base.version} with the manifest {base.manifest!r} is no version")
    there = store_of(base.store, default_store), base.project
    if there != (store, header.project):
        raise UsageError(
            f"This is a draft of v{base.version} in project {base.project!r} of {there[0]}, and is logged to"
            f" project {header.project!r} of {store}.",
            hint="Log it in the project and store of that version, or download that and add its files.",
        )
    return Base(base.version, base.manifest)


def entry_of(entry: pb.Entry, place_of: Callable[[str], str]) -> Entry:
    """An entry that is logged.

    Args:
        place_of: gives the path of a spool file by its name.
    """
    check_path(entry.path)
    source, reference = _source_of(entry, place_of), None
    if entry.WhichOneof("source") == "reference":
        reference = _reference_of(entry.reference)
    elif entry.digest and not _DIGEST.fullmatch(entry.digest):
        raise ProtocolError(f"{entry.path!r} has the digest {entry.digest!r}")
    if not (0 <= entry.size <= _MOST or reference):
        raise ProtocolError(f"{entry.path!r} has a size of {entry.size} bytes")
    digest = entry.digest or None
    if source and source.data is not None:
        digest = sha256_of(source.data)
    return Entry(entry.path, entry.size, digest, source, reference)


def _source_of(entry: pb.Entry, place_of: Callable[[str], str]) -> Source | None:
    kind = entry.WhichOneof("source")
    if kind == "captured":
        captured = entry.captured
        if captured.offset < 0:
            raise ProtocolError(f"{entry.path!r} has the offset {captured.offset}")
        shared = _stat_of(captured.stat) if captured.linked else None
        return Source(place_of(captured.file), captured.offset, shared)
    if kind == "in_place":
        if not entry.in_place.file.startswith("/") or "\0" in entry.in_place.file:
            raise ProtocolError(f"{entry.path!r} lies at {entry.in_place.file!r}")
        return Source(entry.in_place.file, 0, _stat_of(entry.in_place.stat))
    if kind == "data":
        if len(entry.data) != entry.size or entry.size > MAX_DATA_BYTES:
            raise ProtocolError(f"{entry.path!r} has {len(entry.data)} of {entry.size} bytes in it")
        return Source("", 0, None, entry.data)
    if kind is None:
        raise ProtocolError(f"{entry.path!r} has no source")
    return None


def _stat_of(stat: pb.Stat) -> FileStat:
    return FileStat(stat.device, stat.inode, stat.size, stat.mtime_ns)


def _reference_of(reference: pb.Reference) -> Reference:
    if not reference.uri:
        raise BadURI("a reference has no URI")
    return Reference(
        uri=reference.uri,
        checksum=reference.checksum,
        max_objects=reference.max_objects,
        version=reference.version or None,
        resolved=reference.resolved or None,
    )


def lookup_of(lookup: pb.Lookup) -> Lookup:
    """A reference that the daemon resolves; raises ``BadURI`` or ``BadPath`` for what is out of range."""
    if "://" not in lookup.uri or "\0" in lookup.uri:
        raise BadURI(f"{lookup.uri!r} is no URI")
    if lookup.name:
        check_path(lookup.name)
    return Lookup(0, lookup.uri, lookup.server, lookup.name, max(0, lookup.max_objects))


def wanted_of(reference: pb.SeenReference) -> Wanted:
    """A reference that somebody wants to read."""
    seen = Seen(
        uri=reference.uri,
        server=reference.server,
        digest=reference.digest or None,
        size=reference.size if reference.size >= 0 else None,
        version=reference.version or None,
    )
    return Wanted(reference.path, seen, max(0, reference.start))


def metadata_of(metadata: bytes) -> dict[str, object]:
    """Metadata as it came. Raises ``BadMetadata``."""
    return msgspec.json.decode(_metadata_of(metadata), type=dict[str, object])


def _metadata_of(metadata: bytes) -> str:
    if len(metadata) > MAX_METADATA_BYTES:
        raise BadMetadata(
            f"the metadata has {len(metadata)} bytes; {MAX_METADATA_BYTES} are allowed"
        )
    try:
        text = (metadata or b"{}").decode()
        if not isinstance(msgspec.json.decode(text), dict):
            raise BadMetadata("the metadata is no JSON object")
    except (UnicodeDecodeError, msgspec.DecodeError) as exc:
        raise BadMetadata(f"the metadata is not JSON: {exc}") from exc
    return text


def _alias_of(alias: str) -> str:
    # These two add nothing (docs/commit.md, rule 8), and are no errors.
    return alias if alias in ("", "latest") else check_alias(alias)


def _folder_of(header: pb.LogHeader) -> str:
    if not header.folder:
        return ""
    if not (_SEGMENT.fullmatch(header.session) and _SEGMENT.fullmatch(header.folder)):
        raise ProtocolError(f"{header.session}/{header.folder} is no folder of a session")
    if header.folder == "lock":
        raise BadName("a session's lock is no folder")
    return f"sessions/{header.session}/{header.folder}"


# ── out ────────────────────────────────────────────────────────────────────────────────────────
def time_text(seconds: float | None) -> str:
    """RFC 3339, or "" for None."""
    return "" if seconds is None else rfc3339(seconds)


def state_message(request: Request, done_bytes: int | None, ahead: int) -> pb.RequestState:
    """What is told of a request.

    Args:
        done_bytes: of the step that is under way; None where none is.
        ahead: requests before it in its lane.
    """
    size = request.size
    if done_bytes is None:
        done_bytes = size if request.state in _SENT else 0
    elif request.state is State.UPLOADED:  # what its changes come to is more than they are
        size = max(size, done_bytes)
    return pb.RequestState(
        request_id=request.id,
        project=request.lane.project,
        name=request.lane.name,
        type=request.type,
        store=request.lane.store,
        run_id=request.run.id,
        state=str(request.state),
        place=request.place or 0,
        version=-1 if request.version is None else request.version,
        digest=request.digest or "",
        entries=request.entries,
        size=size,
        bytes_done=min(done_bytes, size),
        error=request.error,
        reason=request.reason,
        next_try=time_text(request.next_try),
        accepted=time_text(request.logged or request.accepted),
        acknowledged=request.acknowledged,
        ahead=ahead,
        last=request.state in ENDED,
        kind=request.kind,
    )


def spool_message(fullness: Fullness) -> pb.SpoolState:
    """How full the spool is."""
    return pb.SpoolState(
        bytes=fullness.held.bytes,
        files=fullness.held.files,
        quota_bytes=-1 if fullness.quota_bytes is None else fullness.quota_bytes,
        quota_files=-1 if fullness.quota_files is None else fullness.quota_files,
        unlogged_bytes=fullness.unlogged.bytes,
        unlogged_files=fullness.unlogged.files,
        resting_bytes=fullness.resting.bytes,
        resting_files=fullness.resting.files,
        bytes_per_s=fullness.bytes_per_s,
        waiting=fullness.waiting,
        sent_bytes=fullness.sent_bytes,
    )


def version_message(found: FoundVersion, lane: Lane) -> pb.Version:
    """A version that is in a store."""
    record = found.record
    return pb.Version(
        store=lane.store,
        project=lane.project,
        name=lane.name,
        version=record.version,
        type=record.type,
        description=record.description,
        metadata=msgspec.json.encode(record.metadata),
        digest=record.digest,
        content=record.content,
        manifest=record.manifest,
        entries=record.entries,
        size=record.size,
        aliases=found.aliases,
        request_id=record.request,
        created=record.created,
        run=run_message(record.run, lane.project),
        inputs=record.inputs,
        tags=record.tags,
        client=record.client,
        edited=found.edited,
    )


def entry_message(entry: ManifestEntry) -> pb.Entry:
    """A manifest's entry."""
    reference = None
    if entry.ref is not None:
        reference = pb.Reference(
            uri=entry.ref,
            checksum=entry.digest is not None,
            version=entry.version or "",
            resolved=entry.resolved or "",
            sums=entry.sums,
        )
    size = -1 if entry.size is None else entry.size
    return pb.Entry(path=entry.path, digest=entry.digest or "", size=size, reference=reference)


def batch_message(entries: Iterable[ManifestEntry]) -> pb.EntryBatch:
    """A batch of a manifest's entries."""
    return pb.EntryBatch(entries=[entry_message(entry) for entry in entries])


def piece_message(piece: Piece) -> pb.FileChunk:
    """A piece of a reference."""
    error = piece.error
    return pb.FileChunk(
        path=piece.path,
        start=piece.start,
        data=piece.data,
        last=piece.last,
        error=public_name(error) if error else "",
        reason=str(error) if error else "",
    )


def chunk_message(chunk: Chunk) -> pb.FileChunk:
    """A piece of a file; path and entry in its first one."""
    if chunk.entry is None:
        return pb.FileChunk(data=chunk.data, last=chunk.last)
    entry = entry_message(chunk.entry)
    return pb.FileChunk(path=chunk.entry.path, data=chunk.data, last=chunk.last, entry=entry)


def fetched_message(place: Place) -> pb.FetchedFile:
    """Where the bytes of an entry are."""
    return pb.FetchedFile(
        path=place.path,
        file=place.file,
        offset=place.offset,
        checked=place.is_checked,
        data=place.data,
        linkable=place.is_linkable,
        cached=place.is_cached,
    )
