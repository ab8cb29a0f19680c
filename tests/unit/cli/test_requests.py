"""``wherry retry``, ``cancel`` and ``acknowledge``: which requests the daemon is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, pb, request

_ONE, _TWO = request(1).request_id, request(2).request_id


@pytest.mark.parametrize(
    ("command", "method"),
    [("retry", "Retry"), ("cancel", "Cancel"), ("acknowledge", "Acknowledge")],
)
def test_wrong_requests_are_named(
    daemon: FakeDaemon, as_json: Callable[..., Any], command: str, method: str
) -> None:
    """Ids are sent whole; the end of one that the table shows is enough to name it."""
    daemon.requests = [request(1), request(2)]
    assert as_json(command, "00000002", _ONE) == {"count": 2, "left_out": []}
    (sent,) = daemon.named(method)
    assert list(sent.request_ids) == [_TWO, _ONE]
    assert not sent.all


@pytest.mark.parametrize("part", ["0193e0c2", "0", "99999999"])
def test_ambiguous_id_names_one(daemon: FakeDaemon, wherry: Wherry, part: str) -> None:
    """What may mean two requests, or none, is refused before anything is done."""
    daemon.requests = [request(1), request(2), request(100)]
    shown = wherry("cancel", part, exit_code=1)
    assert part in shown.stderr
    assert daemon.named("Cancel") == []
    (asked,) = daemon.named("ListRequests")
    assert asked.id_part == part and asked.limit < 100  # and not all that there are


def test_done_request_is_not_found_by_its_end(daemon: FakeDaemon, wherry: Wherry) -> None:
    """The ends of ids are looked for among all requests, ended ones too."""
    daemon.requests = [request(1, state="done"), request(2, state="cancelled")]
    daemon.left_out = [f"{_ONE}: it is done"]
    wherry("cancel", "00000001", exit_code=1)
    assert list(daemon.named("Cancel")[0].request_ids) == [_ONE]


def test_left_out_looks_done(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Where a named request could not be taken, it is told why and the exit code is 1."""
    daemon.requests = [request(1)]
    daemon.left_out = [f"{_ONE}: it is sending"]
    assert "it is sending" in wherry("cancel", _ONE, exit_code=1).stderr


def test_lane_is_not_meant(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A lane is named by artifact and project, and by a store as it is shown."""
    address = "s3://bucket/x?region=eu-north-1"
    daemon.stopped = [pb.LaneState(store=address, project="cats", name="model", reason="other")]
    wherry("retry", "--lane", "model", "--project", "cats")
    wherry("retry", "--lane", "cats/model", "--store", address)
    wherry("retry", "--store", "/data")
    first, second, third = daemon.named("Retry")
    assert (first.project, first.name, first.store) == ("cats", "model", "")
    assert (second.project, second.name, second.store) == ("cats", "model", address)
    assert (third.project, third.name, third.store) == ("", "", "file:///data")


@pytest.mark.parametrize(
    "arguments",
    [
        ("cancel",),
        ("cancel", _ONE, "--all"),
        ("acknowledge",),
        ("retry",),
        ("retry", "--all", "--lane", "model"),
        ("retry", _ONE, "--store", "/data"),
        ("retry", "--lane", "model:v3"),
        ("retry", "--lane", "a/b/c"),
    ],
)
def test_unclear_choice_does_something(
    daemon: FakeDaemon, wherry: Wherry, arguments: tuple[str, ...]
) -> None:
    """Requests are chosen in one way; nothing is done by mistake."""
    wherry(*arguments, exit_code=2)
    assert daemon.calls == []


def test_many_ids_break_the_call(daemon: FakeDaemon, wherry: Wherry, monkeypatch: Any) -> None:
    """More ids than fit into one message go in several, in order, and the counts are added."""
    monkeypatch.setattr("wherry.cli.calls._IDS_A_CALL", 2)
    ids = [request(number).request_id for number in range(5)]
    assert wherry("cancel", *ids).stdout == "6 requests cancelled\n"
    assert [list(sent.request_ids) for sent in daemon.named("Cancel")] == [
        ids[:2],
        ids[2:4],
        ids[4:],
    ]
