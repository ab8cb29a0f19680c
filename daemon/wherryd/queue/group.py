"""One transaction for many changes. Plain functions of a connection: no loop, no thread.

Owns: that a group is committed as a whole or not at all, and that a change which raises spoils none
of its neighbours. Does not own: who is in a group (``writer``), what a change does (``changes``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import msgspec

from wherry.wire.failpoints import Failpoint, failpoint
from wherryd.queue.troubles import is_full

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Changed(msgspec.Struct, Generic[T_co], frozen=True):
    """What a change gives back: the caller's result, and the topics that have news once it is durable."""

    value: T_co
    topics: tuple[Hashable, ...] = ()


Change = Callable[[sqlite3.Connection], Changed[T]]


class Kind(msgspec.Struct, frozen=True):
    """A kind of change, with the places where a test can end the process around its commit."""

    before_commit: tuple[Failpoint, ...]
    after_commit: tuple[Failpoint, ...]
    is_new_work: bool = (
        False  # refused on a full disk, where what is left is for work that frees it
    )
    is_call: bool = False  # a client waits for it, and is told when it has waited long in vain

    @classmethod
    def named(cls, name: str, *, is_new_work: bool = False, is_call: bool = False) -> Kind:
        """Declare the places of a kind."""
        before, after = f"queue.{name}.before-commit", f"queue.{name}.after-commit"
        return cls((failpoint(before),), (failpoint(after),), is_new_work, is_call)

    def __add__(self, other: Kind) -> Kind:
        """A change that is of both kinds."""
        return Kind(
            self.before_commit + other.before_commit,
            self.after_commit + other.after_commit,
            self.is_new_work or other.is_new_work,
            self.is_call or other.is_call,
        )


Member = tuple[Kind, Change[object]]
Outcome = Changed[object] | Exception


def commit_group(db: sqlite3.Connection, members: Sequence[Member]) -> list[Outcome]:
    """Run the changes in one transaction and commit it, with one sync of the disk.

    Returns what each gave or raised. Raises what went wrong with the transaction itself (disk full,
    database held by another program): then nothing of the group was done.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        outcomes = _run_all(db, members)
        for kind, _ in members:
            _pass(kind.before_commit)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    for kind, _ in members:
        _pass(kind.after_commit)
    return outcomes


def _pass(places: Sequence[Failpoint]) -> None:
    for place in places:
        place()


def _run_all(db: sqlite3.Connection, members: Sequence[Member]) -> list[Outcome]:
    """Run the changes; where one raises, which is rare, all once more, each with a way back of its own."""
    try:
        return [change(db) for _, change in members]
    except Exception:  # noqa: BLE001 - whatever it is, it is met again, and told to its caller
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
    return [_run_one(db, change) for _, change in members]


def _run_one(db: sqlite3.Connection, change: Change[object]) -> Outcome:
    outcome: Outcome
    db.execute("SAVEPOINT change")
    try:
        outcome = change(db)
    except Exception as error:
        # On a full disk or an I/O error SQLite may have given up the whole transaction.
        if not db.in_transaction or (isinstance(error, sqlite3.Error) and is_full(error)):
            raise
        db.execute("ROLLBACK TO change")
        outcome = error
    db.execute("RELEASE change")
    return outcome
