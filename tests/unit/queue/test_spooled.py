"""What requests hold of the spool, by their states."""

from __future__ import annotations

import pytest

from tests.unit.queue.helpers import memory, new_request, put
from wherry.wire.room import Room
from wherryd.model import State
from wherryd.queue import changes, looks, migrations, staging

_HELD = Room(100, 3)


@pytest.mark.parametrize("state", State)
def test_a_state_is_left_out_of_the_sum(state: State) -> None:
    """Whatever state a request comes to, it counts there and nowhere else."""
    db = memory()
    put(db, 1, state, new_request("r1", spooled=_HELD))
    found = looks.spooled(db)
    assert found.pop(state) == _HELD
    assert set(found.values()) == {Room()}


def test_what_has_left_counts_twice() -> None:
    """What leaves early is taken off, never below nothing; a free request holds nothing."""
    db = memory()
    put(db, 1, State.DONE, new_request("r1", spooled=_HELD))
    staging.take_off(db, 1, Room(40, 1))
    assert looks.spooled(db)[State.DONE] == Room(60, 2)
    staging.take_off(db, 1, Room(1000, 1000))
    staging.free(db, 1)
    staging.take_off(db, 1, Room(1, 1))
    assert set(looks.spooled(db).values()) == {Room()}


def test_a_failure_that_was_seen_counts_for_ever() -> None:
    """The folder of a failure counts until it is acknowledged and its session is swept."""
    db = memory()
    for row in (1, 2):
        put(db, row, State.FAILED, new_request(f"r{row}", folder=f"f{row}", spooled=_HELD))
    changes.acknowledge(db, [1])
    staging.take_off_folders(db, ["f1", "f2", "f3"])
    assert looks.spooled(db)[State.FAILED] == _HELD
    staging.forget_ended(db, 1000.0)
    assert looks.spooled(db)[State.FAILED] == _HELD


def test_an_older_queue_can_not_be_counted() -> None:
    """Requests of before the count hold nothing that anybody knows of, and end without harm."""
    db = memory()
    put(db, 1, State.DONE)
    staging.free(db, 1)
    assert set(looks.spooled(db).values()) == {Room()}
    assert migrations.form_of(db) >= 7
