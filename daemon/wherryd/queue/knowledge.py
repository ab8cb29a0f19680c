"""What this home knows of stores, of artifacts in them, and of lanes that wait for the user.

Owns: that knowledge counts per (address, store id), and what becomes of it and of requests when
another store counts. Does not own: asking a store (``commit``, ``transfer``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Sequence

from wherry.errors import StoreChanged
from wherryd.model import Lane, Place, State
from wherryd.queue import run_notes
from wherryd.queue.base import DoneRecord, Known, Sent
from wherryd.queue.group import Changed
from wherryd.queue.queries import Value, all_rows, change, change_many, one_row
from wherryd.queue.rows import head_of, json, known_of, lane_of, lane_values
from wherryd.queue.uploads import forget_uploads

_NOTHING_KNOWN = Known(store_id="", type=None, highest=-1, highest_request="")


# ── artifacts ──────────────────────────────────────────────────────────────────────────────────
def known(db: sqlite3.Connection, lane: Lane) -> Known:
    """What is known of an artifact in the store that counts now."""
    found = one_row(db, "known", **lane_values(lane))
    return known_of(found) if found else _NOTHING_KNOWN


def learn(db: sqlite3.Connection, lane: Lane, news: Known) -> Changed[None]:
    """Keep a type, and a highest number unless a higher one is known."""
    change(
        db,
        "learn",
        **lane_values(lane),
        store_id=news.store_id,
        type=news.type,
        highest=news.highest,
        highest_request=news.highest_request,
    )
    return Changed(None)


# ── stores ─────────────────────────────────────────────────────────────────────────────────────
def store_id(db: sqlite3.Connection, address: str) -> str:
    """The id of the store that counts now; "" before the first contact."""
    found = one_row(db, "store", address=address)
    return found["store_id"] if found else ""


def set_store_id(
    db: sqlite3.Connection, address: str, new: str, passed_probe: bool
) -> Changed[None]:
    """Note the first contact; repeating it does nothing."""
    old = store_id(db, address)
    if old not in ("", new):
        raise StoreChanged(
            f"at {address} is another store than before: {new}, not {old}",
            hint="look at it; if it is meant to be there, `wherry status` names the `wherry retry` for it",
        )
    change(db, "upsert_store", address=address, store_id=new)
    if passed_probe:
        change(db, "set_probed", address=address)
    return Changed(None)


def probed(db: sqlite3.Connection, address: str) -> bool:
    """Whether the store that counts now passed the probe."""
    found = one_row(db, "store", address=address)
    return found is not None and found["store_id"] == found["probed"] != ""


# ── done-records ───────────────────────────────────────────────────────────────────────────────
def sent_already(db: sqlite3.Connection, lane: Lane, digests: Sequence[str]) -> set[str]:
    """Which of the digests the project holds in the store that counts now."""
    rows = all_rows(
        db, "sent_already", address=lane.store, project=lane.project, digests=json(digests)
    )
    return {row["digest"] for row in rows}


def note_sent(
    db: sqlite3.Connection,
    lane: Lane,
    sent: Sequence[Sent],
    sent_to: str | None,
    now: float,
) -> Changed[None]:
    """Note bytes that were sent to the store that counts now."""
    counts = store_id(db, lane.store)
    if counts and sent_to in (None, counts):
        place = lane.store, counts, lane.project
        change_many(db, "note_sent", ((*place, *_sent_values(each, now)) for each in sent))
        forget_uploads(db, lane, [each.digest for each in sent])
    return Changed(None)


def _sent_values(sent: Sent, now: float) -> tuple[Value, ...]:
    pack, offset = sent.place.pack, sent.place.offset
    return sent.digest, sent.size, now, pack, None if pack is None else offset, sent.sender


def done_records(db: sqlite3.Connection, lane: Lane, names: Sequence[str]) -> dict[str, DoneRecord]:
    """What is known of objects of the project in the store that counts now."""
    rows = all_rows(
        db, "done_records", address=lane.store, project=lane.project, digests=json(names)
    )
    return {row["digest"]: DoneRecord(row["size"], row["seen"], row["sender"]) for row in rows}


def forget_lost(
    db: sqlite3.Connection, lane: Lane, names: Sequence[str], lost_in: str
) -> Changed[None]:
    """Drop done-records of objects."""
    change(
        db,
        "forget_lost",
        address=lane.store,
        store_id=lost_in,
        project=lane.project,
        digests=json(names),
    )
    return Changed(None)


def places(db: sqlite3.Connection, lane: Lane, digests: Sequence[str]) -> dict[str, Place]:
    """Where the project holds bytes in the store that counts now."""
    rows = all_rows(db, "places", address=lane.store, project=lane.project, digests=json(digests))
    return {row["digest"]: Place(row["pack"], row["pack_offset"] or 0) for row in rows}


# ── stopped lanes ──────────────────────────────────────────────────────────────────────────────
def stop_lane(
    db: sqlite3.Connection, lane: Lane, reason: str, counted: str | None = None
) -> Changed[None]:
    """Note that a lane waits for the user, also in the rows of those that wait for nothing else.

    Args:
        counted: the store that counted when the reason was found; nothing is noted if it does no longer.
    """
    if counted is not None and store_id(db, lane.store) != counted:
        return Changed(None)
    change(db, "stop_lane", **lane_values(lane), reason=reason)
    change(db, "tell_stop", **lane_values(lane), error=StoreChanged.__name__, reason=reason)
    held_up = all_rows(db, "held_up", **lane_values(lane))
    return Changed(None, (lane, *(row["id"] for row in held_up)))


def stopped(db: sqlite3.Connection) -> dict[Lane, str]:
    """Stopped lanes and why."""
    return {lane_of(row): row["reason"] for row in all_rows(db, "stopped")}


def restart_lane(
    db: sqlite3.Connection,
    lane: Lane,
    new: str,
    highest: int,
    request: str,
    there: Sequence[int] = (),
) -> Changed[None]:
    """Take the store as it is now for the one that counts."""
    is_exchanged = store_id(db, lane.store) not in ("", new)
    if is_exchanged:
        run_notes.forget_recorded(db, lane.store)
    concerned = _concerned(lane, exchanged=is_exchanged)
    change(db, "upsert_store", address=lane.store, store_id=new)
    change(
        db,
        "replace_known",
        **lane_values(lane),
        store_id=new,
        highest=highest,
        highest_request=request,
    )
    change(db, "forget_sent", address=lane.store, store_id=new, project=lane.project)
    change(db, "forget_floors", **concerned)
    change(db, "start_lane", **lane_values(lane))
    change(db, "forget_attempts", rows=json([*there]))
    found = all_rows(db, "to_upload_again", **concerned, there=json([*there]))
    back = [head_of(row) for row in found]
    topics: set[Hashable] = {lane, *(head.id for head in back), *(head.lane for head in back)}
    return Changed(None, (*((State.PREPARED,) if back else ()), *topics))


def _concerned(lane: Lane, exchanged: bool) -> dict[str, Value]:
    """The lane; if another store counted before, all lanes at the address."""
    if exchanged:
        return {"address": lane.store, "project": "", "name": ""}
    return {**lane_values(lane)}
