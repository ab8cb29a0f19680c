"""What is told of a request: the words, and the keys of its JSON form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.cli.fake import pb, request
from wherry import errors
from wherry.cli import states

_NOW = datetime(2026, 11, 23, 14, 0, 0, tzinfo=UTC)


def _told(**fields: Any) -> str:
    state = request(1, **fields)
    return " ".join([states.headline(state), *states.sentences(state, "00000001", _NOW)])


def test_waiting_request_leaves_one_helpless() -> None:
    """What waits for the store says for what, why, until when, and what one can do."""
    told = _told(
        state="prepared",
        error="StoreUnavailable",
        reason="connection refused by 127.0.0.1:9000",
        next_try="2026-11-23T14:00:12.000Z",
    )
    assert told == (
        "waiting for the store connection refused by 127.0.0.1:9000. Next try in 12 s."
        " It is tried again by itself, for as long as it takes."
        " `wherry retry 00000001` tries now, `wherry cancel 00000001` gives it up."
    )


def test_hint_is_lost() -> None:
    """The hint that came with the reason takes the place of a general one."""
    told = _told(
        state="prepared",
        error="AccessRefused",
        reason="the folder /x can't be written\n  chown it",
    )
    assert "chown it." in told and "credentials" not in told


def test_cancel_is_offered_in_vain() -> None:
    """What may be in the store already can't be cancelled, and nobody is told to."""
    waits = {"error": "StoreUnavailable", "reason": "no answer"}
    assert "wherry cancel" in _told(state="uploaded", **waits)
    assert "wherry cancel" not in _told(state="sending", **waits)


def test_failure_leaves_one_helpless() -> None:
    """A failed request says why, and both ways on."""
    told = _told(state="failed", error="FileChanged", reason="/a changed")
    assert told.startswith("failed /a changed.")
    assert "wherry retry 00000001" in told and "wherry acknowledge 00000001" in told


def test_held_request_leaves_one_helpless() -> None:
    """A held request names the command that sends it."""
    assert "wherry sync" in _told(state="held")


@pytest.mark.parametrize("state", [*states.NOT_ENDED, *states.ENDED])
def test_state_has_no_words(state: str) -> None:
    """Every state of the queue has words of its own, and none is shown as it is spelt there."""
    told = states.headline(request(1, state=state, version=3))
    assert told and (told != state or state in ("uploaded", "failed", "cancelled"))


@pytest.mark.parametrize("name", sorted(errors.BY_NAME))
def test_error_has_no_words(name: str) -> None:
    """Whatever class a request waits with, it is told for what, and what one can do."""
    told = _told(state="prepared", error=name, reason="why")
    assert told.startswith("waiting for ")
    assert "wherry retry" in told


def test_version_is_told_too_early() -> None:
    """A version is told from the moment at which it exists, and not before."""
    assert states.request_json(request(1, state="sending", version=-1))["version"] is None
    assert states.request_json(request(1, state="settled", version=3))["version"] == "v3"
    assert states.request_json(request(1, state="done", version=0))["version"] == "v0"


def test_keys_change() -> None:
    """Programs rely on these keys, and on null for what is not known."""
    assert states.request_json(request(7)) == {
        "request": "0193e0c2-7f3a-7000-8000-000000000007",
        "state": "accepted",
        "project": "cats",
        "name": "model",
        "type": "model",
        "store": "file:///store",
        "run": "run1",
        "place": 7,
        "ahead": 0,
        "kind": "log",
        "version": None,
        "digest": None,
        "entries": 1,
        "size": 4096,
        "bytes_done": 0,
        "error": None,
        "reason": None,
        "next_try": None,
        "accepted": "2026-11-23T14:00:00.000Z",
        "acknowledged": False,
    }


def test_stopped_lane_leaves_one_helpless() -> None:
    """A lane that stands still says why, and names the command that sets it going."""
    lane = pb.LaneState(store="s3://b/x", project="cats", name="model", reason="another store")
    told = states.lane_sentences(lane)
    assert told[0] == "another store."
    assert told[-1] == "wherry retry --lane cats/model --store 's3://b/x'"


def test_sum_is_wrong() -> None:
    """Counts are summed up: what is open by state, then what has ended."""
    counts = {"held": 1, "sending": 2, "failed": 1, "done": 1200}
    assert states.counts_text(counts) == "3 not done (1 held, 2 sending), 1 failed, 1,200 done"
    assert states.counts_text({}) == "nothing was logged here yet"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "sending"}, "being put into its draft"),
        ({"state": "settled"}, "in its draft, whose finish is under way"),
        ({"state": "done"}, "in its draft"),
        ({"state": "accepted"}, "being hashed"),
        ({"state": "settled", "error": "DraftConflict"}, "waiting for another finish of its draft"),
    ],
)
def test_an_upsert_is_said_to_be_committed(fields: dict[str, str], said: str) -> None:
    """What becomes of an upsert is told in words of its own: it is no version."""
    assert states.headline(request(7, kind="upsert", **fields)) == said


def test_a_waiting_finish_says_nothing() -> None:
    """A finish that waits for earlier upserts says so, and that there is nothing to do."""
    state = request(7, kind="finish", state="uploaded", error="UpsertsPending", reason="3 upserts")
    assert states.headline(state) == "waiting for upserts to its draft"
    assert "It goes on" in " ".join(states.sentences(state))
    assert states.outcome_text(request(7, kind="upsert", state="done")).endswith("is in its draft")
