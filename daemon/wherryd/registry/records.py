"""The small objects of a store as bytes: one line of JSON each (``docs/store-format.md``).

Owns: encoding, decoding, and which bytes are refused. Does not own: keys, I/O, or what a record means.

The same record always gives the same bytes, so that every try at a number sends the same; callers
still make them once and keep them. Fields that are not known are passed over on reading: format 1 may
gain some. Another format number is refused, since what a newer Wherry wrote may mean something else.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import msgspec

from wherry.errors import StoreDamaged, StoreError
from wherryd.model import (
    Alias,
    DraftMark,
    DraftPart,
    Edit,
    RunRecord,
    Sealed,
    Tombstone,
    VersionRecord,
)
from wherryd.registry.base import Identity, Writer
from wherryd.registry.layout import HEX, SHA256

FORMAT = 1
"""The number under ``format`` in everything that this version writes."""


class ArtifactClaim(msgspec.Struct, frozen=True):
    """``artifact.json``: which type an artifact's name belongs to, for ever.

    ``project`` and ``name`` are those that claimed it: a store that folds case shows it under others.
    """

    format: int
    project: str
    name: str
    type: str


Small = (
    Identity
    | Writer
    | ArtifactClaim
    | VersionRecord
    | Tombstone
    | Edit
    | Alias
    | DraftPart
    | DraftMark
    | Sealed
    | RunRecord
)


#: Fields whose absence means that there is none.
_ABSENT_IF_EMPTY = ("tags", "reason", "replaced")
_ABSENT_OF_A_RUN = (
    *("used", "logged", "drafts"),
    *("started", "ended", "exit_code", "notes", "config", "client"),
)


class _Head(msgspec.Struct):
    format: int
    deleted: msgspec.Raw = msgspec.Raw(b"null")


_T = TypeVar(
    "_T",
    Identity,
    Writer,
    ArtifactClaim,
    VersionRecord,
    Tombstone,
    Edit,
    Alias,
    DraftPart,
    DraftMark,
    Sealed,
    RunRecord,
)


def encode(record: Small) -> bytes:
    """Write a small object: its fields in the order of its class, one line, a line feed."""
    fields = {key: getattr(record, name) for key, name in _names(type(record))}
    of_a_run = _ABSENT_OF_A_RUN if isinstance(record, RunRecord) else ()
    for optional in (*_ABSENT_IF_EMPTY, *of_a_run):
        if not fields.get(optional, True) and fields[optional] != 0:
            del fields[optional]
    return msgspec.json.encode(fields) + b"\n"


@cache
def _names(kind: type[Small]) -> tuple[tuple[str, str], ...]:
    """Each field's name in JSON and in the class: to find them takes longer than to write a record."""
    return tuple((field.encode_name, field.name) for field in msgspec.structs.fields(kind))


def decode_identity(key: str, body: bytes) -> Identity:
    """Read ``wherry.json``. Raises as ``decode_version``."""
    return _decode(key, body, Identity)


def decode_writer(key: str, body: bytes) -> Writer:
    """Read ``wherry-writer.json``. Raises as ``decode_version``."""
    return _decode(key, body, Writer)


def decode_claim(key: str, body: bytes) -> ArtifactClaim:
    """Read ``artifact.json``. Raises as ``decode_version``."""
    return _decode(key, body, ArtifactClaim)


def decode_version(key: str, body: bytes) -> VersionRecord | Tombstone:
    """Read a version's record, or the tombstone in its place (it has ``deleted``).

    Args:
        key: where the bytes were read, for the error.

    Raises:
        StoreDamaged: not a record; put the object back as it was.
        StoreError: of another format; install a newer Wherry.
    """
    if bytes(_head(key, body).deleted) != b"null":
        return _check_version(key, _decode(key, body, Tombstone))
    record = _check_version(key, _decode(key, body, VersionRecord))
    if not SHA256.fullmatch(record.manifest) or record.entries < 0 or record.size < 0:
        raise damaged(key, "its manifest's digest, its entries or its size can't be")
    return record


def decode_edit(key: str, body: bytes) -> Edit:
    """Read what was saved of a version. Raises as ``decode_version``."""
    try:
        edit = _decode(key, body, Edit)
    except StoreDamaged as error:
        raise _damaged_edit(key, error.message) from error
    if edit.version < 0:
        raise _damaged_edit(key, f"{key} is damaged: there is no version {edit.version}")
    return edit


def _damaged_edit(key: str, what: str) -> StoreDamaged:
    hint = f"Remove {key}, and save it again: the version itself, as it was logged, is beside it."
    return StoreDamaged(what, hint=hint)


def decode_alias(key: str, body: bytes) -> Alias:
    """Read an alias object. Raises as ``decode_version``."""
    alias = _decode(key, body, Alias)
    if alias.highest < 0 or not 0 <= (alias.version or 0) <= alias.highest:
        raise damaged(key, f"version {alias.version} is not between 0 and {alias.highest}")
    return alias


def decode_part(key: str, body: bytes) -> DraftPart:
    """Read what an upsert has put into a draft. Raises as ``decode_version``."""
    part = _decode(key, body, DraftPart)
    if not part.request or part.sequence < 0 or part.entries < 0 or part.size < 0:
        raise damaged(key, "it bears no request id, or a number in it can't be")
    _check_digests(key, part.manifest, part.digest)
    return part


def decode_mark(key: str, body: bytes) -> DraftMark:
    """Read ``sealing.json`` or ``conflict.json`` of a draft. Raises as ``decode_version``."""
    return _decode(key, body, DraftMark)


def decode_run(key: str, body: bytes) -> RunRecord:
    """Read what a home has written of a run. Raises as ``decode_version``."""
    record = _decode(key, body, RunRecord)
    if not record.run.id or not record.project:
        raise damaged(key, "it names no run, or no project")
    return record


def decode_sealed(key: str, body: bytes) -> Sealed:
    """Read ``sealed.json`` of a draft. Raises as ``decode_version``."""
    sealed = _decode(key, body, Sealed)
    if not HEX.fullmatch(sealed.draft) or sealed.start < 0 or sealed.same > sealed.start:
        raise damaged(key, "it bears no draft's id, or no number that its version can have")
    _check_digests(key, sealed.manifest, sealed.digest, sealed.content)
    return sealed


def damaged(key: str, why: str) -> StoreDamaged:
    """Make the error for an object that is not what its name says."""
    return StoreDamaged(
        f"{key} is damaged: {why}",
        hint="Another program may have changed it; put it back as it was, then `wherry retry --all`.",
    )


def _decode(key: str, body: bytes, kind: type[_T]) -> _T:
    _head(key, body)
    return _json(key, body, kind)


def _head(key: str, body: bytes) -> _Head:
    head = _json(key, body, _Head)
    if head.format > FORMAT:
        raise StoreError(
            f"{key} has format {head.format}, and this Wherry reads format {FORMAT}",
            hint="A newer Wherry wrote it: pip install --upgrade 'wherry[daemon]'",
        )
    if head.format < FORMAT:
        raise damaged(key, f"there is no format {head.format}")
    return head


_Json = TypeVar("_Json")


def _json(key: str, body: bytes, kind: type[_Json]) -> _Json:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise damaged(key, str(exc)) from exc


def _check_digests(key: str, *digests: str) -> None:
    if not all(map(SHA256.fullmatch, digests)):
        raise damaged(key, "one of its digests is not sha256: and 64 hex digits")


_Version = TypeVar("_Version", VersionRecord, Tombstone)


def _check_version(key: str, record: _Version) -> _Version:
    if record.version < 0 or not record.request:
        raise damaged(key, "it bears no number or no request id")
    _check_digests(key, record.digest, record.content)
    return record
