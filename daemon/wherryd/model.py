"""The plain data that passes between stages. Ground floor: no I/O, no logic.

Sizes and offsets are bytes, times are seconds since 1970 in UTC unless the name says otherwise,
digests are ``sha256:<hex>`` for bytes that we hashed.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class State(enum.StrEnum):
    """Where a request is. The arrows stand in ``queue/schema.sql``."""

    HELD = "held"  # by offline mode; has no place in line
    ACCEPTED = "accepted"  # durable, in its place in line
    PREPARED = "prepared"  # every entry has its digest; the manifest is made
    UPLOADED = "uploaded"  # all that the version names is in the store
    SENDING = "sending"  # number and record are in the queue; the record may be on its way
    SETTLED = "settled"  # it is a version; aliases may be missing
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RequestKind(enum.StrEnum):
    """What a request asks for."""

    LOG = "log"
    UPSERT = "upsert"  # puts a part into a draft; takes no number
    FINISH = "finish"  # makes a draft a version


class Lane(msgspec.Struct, frozen=True, order=True):
    """Requests in one lane commit in order; lanes run in parallel."""

    store: str  # address
    project: str
    name: str


class RunInfo(msgspec.Struct, frozen=True, omit_defaults=False):
    """The run that logged a version, as the version's record has it."""

    id: str
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    entity: str | msgspec.UnsetType | None = msgspec.UNSET  # absent where none was given


class RunFacts(msgspec.Struct, frozen=True):
    """What a run is, as its program tells; each telling is whole, and the last one counts."""

    run: RunInfo
    started: str = ""  # RFC 3339; so is ``ended``
    ended: str = ""  # "": not known to have ended
    exit_code: int | None = None
    notes: str | None = None
    tags: list[str] = []
    config: dict[str, Any] = {}
    client: str = ""


class NoteKind(enum.StrEnum):
    """What is noted of a run; a note's value is the name of a version, the id of a draft, or its facts."""

    FACTS = "facts"
    USED = "used"
    LOGGED = "logged"  # a version whose record is another run's
    DRAFT = "draft"  # its part is in the draft


class Base(msgspec.Struct, frozen=True, omit_defaults=True):
    """The version that a request changes; without a manifest: the one before its own, whichever that is."""

    version: int = -1
    manifest: str = ""


class FileStat(msgspec.Struct, frozen=True):
    """What tells whether an ``immutable`` file changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class Source(msgspec.Struct, frozen=True):
    """Where an entry's bytes lie on this machine."""

    file: str  # absolute path; "" where they are no file's
    offset: int = 0
    stat: FileStat | None = None  # set: the bytes are shared with the user's file and checked
    data: bytes | None = None  # set: the bytes themselves, which came with the request


class Reference(msgspec.Struct, frozen=True):
    """Bytes that stay where they are."""

    uri: str
    checksum: bool = True
    max_objects: int = 10_000
    version: str | None = None
    resolved: str | None = None  # RFC 3339
    sums: tuple[str, ...] = ()  # its server's further checksums, as a manifest has them


class Lookup(msgspec.Struct, frozen=True):
    """A reference to a server, until it is known what it stands for; the columns of ``lookups``."""

    number: int
    uri: str
    server: str
    name: str
    max_objects: int
    is_prefix: bool = False
    after: str = ""
    found: int = 0  # below 0: what it led to before a retry is to be forgotten first


class Entry(msgspec.Struct, frozen=True):
    """One path in a version, while the daemon works on it."""

    path: str
    size: int
    digest: str | None = None  # None until it was made
    source: Source | None = None
    reference: Reference | None = None
    pack: str | None = None  # <hex>: its bytes lie, or will lie, in this pack …
    pack_offset: int = 0  # … from here on


class Place(msgspec.Struct, frozen=True):
    """Where a store holds bytes: in a blob of their own, or from ``offset`` on in a pack."""

    pack: str | None = None
    offset: int = 0


class PartSums(msgspec.Struct, frozen=True):
    """What the parts of a big file have to be, made when the whole was hashed."""

    part_bytes: int  # of each but the last
    #: SHA-256 of each, 32 bytes, back to back; then, for a store that checks it, the whole's CRC32C, 4 bytes.
    sums: bytes


class Upload(msgspec.Struct, frozen=True):
    """An upload in parts that is under way."""

    number: int  # of its row
    name: str  # what the store calls it
    part_bytes: int  # of each part but the last
    sent: dict[int, str]  # ETags of the parts that are there, by their numbers, from 1 on


class ManifestEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a manifest (docs/store-format.md, "Manifests")."""

    path: str
    digest: str | None
    size: int | None
    ref: str | None = None
    version: str | None = None
    resolved: str | None = None
    sums: tuple[str, ...] = ()
    pack: str | None = None
    offset: int | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What making a manifest found out."""

    manifest: str  # digest of the plain bytes; its key in the store
    digest: str  # of the entries alone; ``artifact.digest``
    entries: int
    size: int


class VersionRecord(msgspec.Struct, frozen=True):
    """A version's record in the store: ``versions/v00000000.json``."""

    format: int
    version: int
    request: str
    type: str
    description: str | None
    metadata: dict[str, Any]
    entries: int
    size: int
    manifest: str
    digest: str
    content: str
    run: RunInfo
    inputs: list[str]
    aliases: list[str]
    created: str
    client: str
    tags: list[str] = []


class Edit(msgspec.Struct, frozen=True):
    """What a user has saved of a version since it was logged: ``versions/v00000000.edit.json``."""

    format: int
    version: int
    description: str | None
    metadata: dict[str, Any]
    edited: str
    write: str  # fresh for each write, so that no ETag comes twice
    tags: list[str] = []


class Tombstone(msgspec.Struct, frozen=True):
    """What stands in a deleted version's place."""

    format: int
    version: int
    request: str
    digest: str
    content: str
    deleted: str


class DraftPart(msgspec.Struct, frozen=True):
    """What one upsert puts into a draft: ``parts/<request id>.json``."""

    format: int
    request: str
    home: str
    sequence: int  # ascends in the order in which one home's upserts were accepted
    type: str
    description: str | None
    metadata: dict[str, Any]
    entries: int
    size: int
    manifest: str
    digest: str
    run: RunInfo
    inputs: list[str]
    aliases: list[str]
    created: str
    client: str
    tags: list[str] = []


class DraftMark(msgspec.Struct, frozen=True):
    """``sealing.json``: from now on a part may come too late. ``conflict.json``: why a finish failed."""

    format: int
    project: str
    name: str
    request: str  # of the finish
    created: str
    reason: str = ""


class Sealed(msgspec.Struct, frozen=True):
    """``sealed.json``: what a draft is, for ever. All of its version's record but the number."""

    format: int
    draft: str  # <hex>; the request id of the version's record
    project: str
    name: str
    parts: list[str]  # request ids of the upserts that are in it
    finisher: str  # request id of the finish whose own entries are in it
    start: int = msgspec.field(name="from")  # the lowest number that the version can have
    same: bool  # version ``start`` - 1 has the same content: the draft is that one
    type: str
    description: str | None
    metadata: dict[str, Any]
    entries: int
    size: int
    manifest: str
    digest: str
    content: str
    run: RunInfo
    inputs: list[str]
    aliases: list[str]
    created: str
    client: str
    tags: list[str] = []
    replaced: list[str] = []  # paths at which the finisher, or the newest part, had the last word


class RunRecord(msgspec.Struct, frozen=True):
    """What one home has written of a run at once: ``runs/<id>/<home id>-<number>.json``."""

    format: int
    project: str  # the run's
    run: RunInfo
    written: str
    used: list[str] = []  # "project/name:v3"; so is ``logged``
    logged: list[str] = []
    drafts: list[str] = []  # <hex>
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    notes: str | None = None
    tags: list[str] = []
    config: dict[str, Any] = {}
    client: str = ""


class Alias(msgspec.Struct, frozen=True):
    """An alias object: ``aliases/<alias>.json``."""

    format: int
    alias: str
    version: int | None  # None: removed
    highest: int  # highest number that was ever given to it
    write: str  # fresh for each write, so that no ETag comes twice
