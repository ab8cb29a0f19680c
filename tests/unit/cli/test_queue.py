"""``wherry status`` and ``wherry queue`` against a daemon that plays its part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, pb, request

_WAITS = {
    "state": "prepared",
    "error": "StoreUnavailable",
    "reason": "connection refused",
    "next_try": "2099-01-01T00:00:00.000Z",
}


def test_status_starts_a_daemon_for_nothing(
    home: Path, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """Where nothing was ever logged there is nothing to start a daemon for."""
    monkeypatch.setenv("WHERRY_DAEMON", "/bin/false")
    found = as_json("status")
    assert found["daemon"]["running"] is False
    assert found["requests"] == []
    assert not any(found["counts"].values())


def test_status_lacks_a_part(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """The daemon, the counts, what is not done and why, and the lanes that stand still are there."""
    daemon.requests = [request(1, **_WAITS), request(2, state="done", version=1)]
    daemon.stopped = [pb.LaneState(store="file:///s", project="cats", name="x", reason="why")]
    found = as_json("status")
    assert found["daemon"]["running"] is True
    assert found["counts"]["prepared"] == 1 and found["counts"]["failed"] == 0
    (shown,) = found["requests"]
    assert shown["state"] == "prepared" and shown["reason"] == "connection refused"
    assert found["stopped"] == [
        {"store": "file:///s", "project": "cats", "name": "x", "reason": "why"}
    ]


def test_table_hides_the_reason(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A person reads why a request waits, what to do, and how many are behind it."""
    daemon.requests = [request(1, **_WAITS), request(2, state="uploaded", ahead=1)]
    first, second = wherry("status").stdout.splitlines()[3:5]
    assert "waiting for the store: connection refused" in first
    assert "wherry retry 00000001" in first
    assert second.split()[-2:] == ["1", "uploaded"]


def test_name_is_taken_for_markup(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Names and reasons are shown as they are, whatever rich makes of brackets elsewhere."""
    daemon.requests = [
        request(1, name="[red]x[/red]", state="failed", reason="no [b]key[/b] :cat:")
    ]
    shown = wherry("status").stdout
    assert "cats/[red]x[/red]" in shown
    assert "no [b]key[/b] :cat:" in shown


def test_filter_is_not_sent(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Filters go to the daemon, which has the whole queue."""
    arguments = "--state failed --state done --project cats --name model --limit 7"
    wherry("queue", *arguments.split())
    (sent,) = daemon.named("ListRequests")
    assert (list(sent.states), sent.project) == (["failed", "done"], "cats")
    assert (sent.name, sent.limit) == ("model", 7)


def test_json_forms_differ(daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]) -> None:
    """--jsonl prints the objects of --json's array, a line each."""
    daemon.requests = [request(1), request(2, name="Ünï\ncode")]
    lines = wherry("queue", "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == as_json("queue")
    assert len(lines) == 2


def test_empty_queue_is_no_json(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """An empty queue is an empty array."""
    assert as_json("queue") == []


def test_misspelt_state_shows_nothing(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A state that is none is wrong usage, and the right ones are named."""
    result = wherry("queue", "--state", "pending", exit_code=2)
    assert "accepted" in result.stderr
    assert daemon.calls == []


def test_cut_listing_looks_whole(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Where --limit has cut the listing, people are told."""
    daemon.requests = [request(1), request(2)]
    assert "--limit" in wherry("queue", "--limit", "1").stderr
    assert wherry("queue", "--limit", "3").stderr == ""


def test_cut_status_looks_whole(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Where Status had no room for all, the table says how many more there are."""
    daemon.requests = [request(number) for number in range(3)]
    daemon.status_limit = 1
    assert "… and 2 more that are not done: wherry queue" in wherry("status").stdout
    daemon.status_limit = 1000
    assert "more" not in wherry("status").stdout


def test_acknowledged_failure_is_counted_on(daemon: FakeDaemon, wherry: Wherry) -> None:
    """The sum leaves out what was put away."""
    daemon.requests = [request(1, state="failed", acknowledged=True), request(2, state="done")]
    assert "failed" not in wherry("status").stdout
    assert "failed" not in wherry("queue").stdout


def test_spool_that_fills_up_is_not_seen(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """How full the spool is, of what, who holds it, and how long until what can be sent is sent."""
    gib = 1 << 30
    daemon.spool = pb.SpoolState(
        bytes=9 * gib,
        files=1200,
        quota_bytes=10 * gib,
        quota_files=-1,
        unlogged_bytes=gib,
        unlogged_files=2,
        resting_bytes=2 * gib,
        resting_files=7,
        bytes_per_s=0.05 * gib,
        waiting=2,
    )
    shown = wherry("status").stdout
    assert "The spool holds 9.0 GiB of 10.0 GiB, in 1,200 files." in shown
    assert "At 51.2 MiB/s what can be sent is gone in about 2 min." in shown
    assert "1.0 GiB are captured and not logged yet" in shown
    assert "2.0 GiB are of requests that wait for you" in shown and "`wherry sync`" in shown
    assert "2 programs wait for room" in shown and "spool_quota_bytes" in shown
    found = as_json("status")["spool"]
    assert (found["bytes"], found["quota_bytes"], found["quota_files"]) == (9 * gib, 10 * gib, None)
    assert round(found["seconds_left"]) == 120
    assert found["waiting"] == 2
    daemon.spool.sent_bytes = 3 * gib  # of 6 that go
    assert "At 51.2 MiB/s what can be sent is gone in about 60 s." in wherry("status").stdout
    found = as_json("status")["spool"]
    assert (found["sent_bytes"], round(found["seconds_left"])) == (3 * gib, 60)
    daemon.spool.bytes_per_s = 0.3
    assert "At 1 byte/s what" in wherry("status").stdout


def test_end_of_a_spool_that_stands_still_is_told(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """While nothing leaves it, nobody knows when it is empty; an empty one is not spoken of."""
    daemon.spool = pb.SpoolState(bytes=5, files=1, quota_bytes=10, quota_files=10)
    assert "Nothing leaves it at present" in wherry("status").stdout
    assert as_json("status")["spool"]["seconds_left"] is None
    daemon.spool.bytes_per_s = 2.0  # that something had lately
    daemon.requests = [request(1, state="prepared", error="StoreMissing", reason="no bucket")]
    assert "Nothing leaves it at present" in wherry("status").stdout
    assert as_json("status")["spool"]["seconds_left"] is None
    daemon.requests.append(request(2))
    assert "is gone in about" in wherry("status").stdout
    daemon.requests = []
    daemon.spool = pb.SpoolState(bytes=5, files=1, quota_bytes=10, resting_bytes=5, quota_files=10)
    assert "Nothing of it is on its way." in wherry("status").stdout
    daemon.spool = pb.SpoolState(quota_bytes=10, quota_files=10)
    assert "spool" not in wherry("status").stdout
    assert as_json("status")["spool"]["seconds_left"] == 0
