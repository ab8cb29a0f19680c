"""``wherry wait``, ``sync`` and ``drain``: when they return, and with which exit code."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, request
from wherry.wire import places


def test_wait_returns_early(daemon: FakeDaemon, wherry: Wherry) -> None:
    """wait returns when all requests have ended, and prints what each became."""
    daemon.requests = [request(1, state="done", version=0), request(2, state="sending")]
    daemon.on_wait = lambda: daemon.change(2, state="done", version=1)
    shown = wherry("wait", request(1).request_id, request(2).request_id)
    assert shown.stdout.splitlines() == ["cats/model:v0", "cats/model:v1"]


def test_failure_ends_the_waiting_for_others(
    daemon: FakeDaemon, as_json: Callable[..., Any]
) -> None:
    """One failure is told at the end with exit code 1; the others are waited for all the same."""
    daemon.requests = [
        request(1, state="failed", error="FileChanged", reason="changed"),
        request(2),
    ]
    daemon.on_wait = lambda: daemon.change(2, state="done", version=0)
    found = as_json("wait", "--all", exit_code=0)
    assert [each["version"] for each in found["committed"]] == ["v0"]
    ids = [request(1).request_id, request(2).request_id]
    found = as_json("wait", *ids, exit_code=1)
    assert [each["reason"] for each in found["failed"]] == ["changed"]
    assert len(found["committed"]) == 1


def test_wait_for_ever(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """--timeout ends the waiting; what is left is named and the exit code is 1."""
    daemon.requests = [request(1)]
    found = as_json("wait", "--all", "--timeout", "0.2s", exit_code=1)
    assert found["timed_out"] is True
    assert [each["request"] for each in found["left"]] == [request(1).request_id]


@pytest.mark.parametrize("command", ["wait", "sync"])
def test_silence_looks_like_success(
    daemon: FakeDaemon, as_json: Callable[..., Any], monkeypatch: Any, command: str
) -> None:
    """Where the daemon told nothing in time nothing is known to be committed: the exit code is 1."""
    monkeypatch.setattr("wherry.cli.waiting.LOOK_S", 0.1)
    daemon.requests = [request(1, state="held", place=0)]
    daemon.hang = {"Wait"}
    asked = (request(1).request_id,) if command == "wait" else ()
    found = as_json(command, *asked, "--timeout", "0.1s", exit_code=1)
    assert (found["committed"], found["timed_out"]) == ([], True)


def test_no_time_is_no_look(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """--timeout 0 asks how it is: what has ended is told as such, what has not is named."""
    daemon.requests = [request(1, state="done", version=0), request(2)]
    ids = [request(1).request_id, request(2).request_id[-8:]]
    found = as_json("wait", ids[0], "--timeout", "0")
    assert [each["version"] for each in found["committed"]] == ["v0"]
    found = as_json("wait", *ids, "--timeout", "0", exit_code=1)
    assert [each["request"] for each in found["left"]] == [request(2).request_id]


def test_wait_for_what_is_held(daemon: FakeDaemon, wherry: Wherry) -> None:
    """What offline mode holds is not waited for: it would not come."""
    daemon.requests = [request(1, state="held", place=0)]
    shown = wherry("wait", request(1).request_id, exit_code=1)
    assert "held by offline mode" in shown.stderr
    assert wherry("wait", "--all").stdout == "nothing is left to do\n"


def test_unknown_request_looks_done(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A request that the daemon tells nothing of was not committed by this home."""
    shown = wherry("wait", request(9).request_id, exit_code=1)
    assert request(9).request_id in shown.stderr


def test_part_of_many_is_forgotten(
    daemon: FakeDaemon, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """More requests than one call takes are all waited for."""
    monkeypatch.setattr("wherry.cli.waiting._IDS_A_CALL", 2)
    daemon.requests = [request(number, state="sending") for number in range(5)]

    def finish() -> None:
        for number in range(5):
            daemon.change(number, state="done", version=number)

    daemon.on_wait = finish
    found = as_json("wait", "--all")
    assert {each["version"] for each in found["committed"]} == {"v0", "v1", "v2", "v3", "v4"}


def test_wait_without_aim(daemon: FakeDaemon, wherry: Wherry) -> None:
    """wait is told for what, in one way."""
    wherry("wait", exit_code=2)
    wherry("wait", request(1).request_id, "--all", exit_code=2)


def test_sync_mixes_the_order(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """Held requests, and no others, are sent on their way in their order, and waited for."""
    daemon.requests = [
        request(1, state="held", place=0),
        request(2),
        request(3, state="held", place=0, name="other"),
    ]
    found = as_json("sync")
    (sent,) = daemon.named("Sync")
    assert list(sent.request_ids) == [request(1).request_id, request(3).request_id]
    assert found["synced"] == 2
    assert [each["name"] for each in found["committed"]] == ["model", "other"]


def test_sync_filters_nothing(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """--project and --name choose among the held ones; --no-wait returns at once."""
    daemon.requests = [
        request(1, state="held", place=0),
        request(2, state="held", place=0, name="other"),
    ]
    found = as_json("sync", "--name", "other", "--no-wait")
    assert list(daemon.named("Sync")[0].request_ids) == [request(2).request_id]
    assert (found["synced"], found["committed"]) == (1, [])
    assert daemon.named("Wait") == []


def test_drain_misses_what_comes_meanwhile(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """drain looks again until nothing is left, so that what came while it waited is not forgotten."""
    daemon.requests = [request(1)]

    def log_another() -> None:
        daemon.requests.append(request(2))
        daemon.on_wait = lambda: daemon.change(2, state="done", version=1)
        daemon.change(1, state="done", version=0)

    daemon.on_wait = log_another
    found = as_json("drain")
    assert (found["drained"], found["committed"], found["left"]) == (True, 2, [])


def test_drain_ends_with_its_daemon(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """A daemon that is killed while it tells what is left, or what has ended, ends no drain."""
    daemon.requests = [request(1), request(2)]
    daemon.cuts = ["ListRequests", "Wait", "ListRequests"]

    def end_all() -> None:
        daemon.change(1, state="done", version=0)
        daemon.change(2, state="done", version=1)

    daemon.on_wait = end_all
    assert as_json("drain")["committed"] == 2
    assert daemon.cuts == []


def test_drain_gives_up_silently(daemon: FakeDaemon, wherry: Wherry) -> None:
    """When the time is over drain names what is left and why, and the exit code is 1."""
    waits = {"error": "StoreUnavailable", "reason": "connection refused"}
    daemon.requests = [request(1, state="prepared", **waits)]
    shown = wherry("drain", "--timeout", "0.2s", exit_code=1)
    assert request(1).request_id in shown.stderr
    assert "connection refused" in shown.stderr


def test_failure_keeps_drain_waiting(daemon: FakeDaemon, wherry: Wherry) -> None:
    """What failed is not left to do; what offline mode holds neither, but it is told."""
    daemon.requests = [request(1), request(2, state="held", place=0)]
    daemon.on_wait = lambda: daemon.change(1, state="failed", error="FileChanged", reason="changed")
    shown = wherry("drain")
    assert "changed" in shown.stderr
    assert "1 request is held by offline mode" in shown.stderr


def test_drain_hides_what_failed_before(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """What failed before and was not acknowledged is told, since the home may go away after this."""
    failed = {"state": "failed", "error": "FileChanged", "reason": "changed"}
    daemon.requests = [request(1, **failed), request(2, acknowledged=True, **failed)]
    shown = wherry("drain")
    assert "1 request has failed before" in shown.stderr
    (told,) = as_json("drain")["failed"]
    assert told["request"] == request(1).request_id


def test_drain_starts_a_daemon_for_nothing(home: Path, wherry: Wherry, monkeypatch: Any) -> None:
    """Where nothing was ever logged, a job's epilog returns at once."""
    monkeypatch.setenv("WHERRY_DAEMON", "/bin/false")
    wherry("drain", "--timeout", "60s")


def test_nonsense_time_waits(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A time that can't be read is wrong usage."""
    assert "write 60s" in wherry("drain", "--timeout", "soon", exit_code=2).stderr
    assert daemon.calls == []


@pytest.mark.parametrize("command", ["drain", "wait --all", "wait 9f3c21aa"])
def test_deaf_daemon_outlasts_the_time_out(home: Path, wherry: Wherry, command: str) -> None:
    """The time counts from the start, also where a daemon takes connections and says nothing."""
    home.mkdir(mode=0o700)
    (home / places.QUEUE).touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / places.SOCKET))
        listening.listen()
        shown = wherry(*command.split(), "--timeout", "0.2s", exit_code=1)
    assert "did not answer in time" in shown.stderr


def test_hanging_list_outlasts_the_time_out(daemon: FakeDaemon, wherry: Wherry) -> None:
    """The time counts also while the daemon is asked what there is to wait for."""
    daemon.hang = {"ListRequests"}
    shown = wherry("drain", "--timeout", "0.2s", exit_code=1)
    assert "in time" in shown.stderr
