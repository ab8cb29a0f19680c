"""Uploads in parts: what the parts have to be, and which are in the store already.

Owns: that at most one upload is kept for each blob, and that it counts in the store that counts now only.
Does not own: sending (``stores``), when an upload is given up for good (``transfer.given_up``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wherryd.model import Lane, PartSums, Upload
from wherryd.queue.base import GivenUp
from wherryd.queue.group import Changed
from wherryd.queue.queries import Value, all_rows, change, one_row
from wherryd.queue.rows import json


# ── what the parts have to be ──────────────────────────────────────────────────────────────────
def part_sums(db: sqlite3.Connection, row: int, digest: str) -> PartSums | None:
    """What was made when a file of a request was hashed."""
    found = one_row(db, "part_sums", row=row, digest=digest)
    return PartSums(found["part_bytes"], found["sums"]) if found else None


def keep_part_sums(db: sqlite3.Connection, row: int, digest: str, sums: PartSums) -> Changed[None]:
    """Keep them as long as the request's entries."""
    change(db, "keep_part_sums", row=row, digest=digest, part_bytes=sums.part_bytes, sums=sums.sums)
    return Changed(None)


# ── uploads ────────────────────────────────────────────────────────────────────────────────────
def take_upload(
    db: sqlite3.Connection, row: int, lane: Lane, digest: str
) -> Changed[Upload | None]:
    """The upload of a blob that is under way in the store that counts; it is the request's from now on."""
    found = one_row(db, "upload", **_blob(lane, digest))
    if found is None:
        return Changed(None)
    change(db, "take_upload", row=row, number=found["number"])
    sent = {
        part["number"]: part["etag"] for part in all_rows(db, "sent_parts", upload=found["number"])
    }
    return Changed(Upload(found["number"], found["name"], found["part_bytes"], sent))


def begin_upload(
    db: sqlite3.Connection,
    row: int,
    lane: Lane,
    digest: str,
    store_id: str,
    name: str,
    part_bytes: int,
) -> Changed[Upload]:
    """Note a new upload in place of any that was kept for the blob."""
    forget_uploads(db, lane, [digest])
    begun = one_row(
        db,
        "begin_upload",
        **_blob(lane, digest),
        store_id=store_id,
        name=name,
        part_bytes=part_bytes,
        row=row,
    )
    assert begun is not None
    return Changed(Upload(begun["number"], name, part_bytes, {}))


def note_part(db: sqlite3.Connection, upload: int, number: int, etag: str) -> Changed[None]:
    """A part is in the store."""
    change(db, "note_part", upload=upload, number=number, etag=etag)
    return Changed(None)


def forget_upload(db: sqlite3.Connection, upload: int) -> Changed[None]:
    """The upload is no more: it was completed, given up, or the store has lost it."""
    change(db, "forget_parts", upload=upload)
    change(db, "forget_upload", upload=upload)
    return Changed(None)


def forget_uploads(db: sqlite3.Connection, lane: Lane, digests: Sequence[str]) -> None:
    """Forget what is kept of blobs' uploads."""
    values: dict[str, Value] = {"address": lane.store, "project": lane.project}
    for found in all_rows(db, "uploads_of", **values, digests=json(digests)):
        forget_upload(db, found["number"])


def given_up(db: sqlite3.Connection, limit: int) -> list[GivenUp]:
    """Uploads that no request goes on with."""
    return [
        GivenUp(
            found["number"],
            found["address"],
            found["store_id"],
            found["project"],
            found["digest"],
            found["name"],
        )
        for found in all_rows(db, "given_up", limit=limit)
    ]


def uploads_at(db: sqlite3.Connection, address: str) -> Sequence[str]:
    """Names of the uploads that are kept of a store."""
    return [found["name"] for found in all_rows(db, "uploads_at", address=address)]


def _blob(lane: Lane, digest: str) -> dict[str, Value]:
    return {"address": lane.store, "project": lane.project, "digest": digest}
