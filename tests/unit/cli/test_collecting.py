"""``wherry gc``."""

from __future__ import annotations

import json

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon
from wherry.wire import wherry_pb2 as pb


def _stray(daemon: FakeDaemon) -> None:
    daemon.uploads = [pb.StrayUpload(key="cats/blobs/x", upload="u1", begun="2026-11-01T10:00:00Z")]


def test_something_is_removed_unasked(daemon: FakeDaemon, wherry: Wherry) -> None:
    """What is found is shown; removed only on request; nothing younger than a week by default."""
    _stray(daemon)
    shown = wherry("gc", "--uploads")
    assert "cats/blobs/x" in shown.stdout
    assert "--remove" in shown.stderr
    removed = wherry("gc", "--uploads", "--remove", "--older-than", "2d")
    assert "1 upload removed" in removed.stderr
    asked = [
        (call.older_than_s, call.remove) for name, call in daemon.calls if name == "CollectUploads"
    ]
    assert asked == [(7 * 86_400, False), (2 * 86_400, True)]


def test_keys_of_json_change(daemon: FakeDaemon, wherry: Wherry) -> None:
    """The keys are those that --help names."""
    _stray(daemon)
    (found,) = json.loads(wherry("gc", "--uploads", "--json").stdout)
    assert found == {
        "key": "cats/blobs/x",
        "upload": "u1",
        "begun": "2026-11-01T10:00:00Z",
        "removed": False,
    }


def test_nothing_is_found(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Nothing is told as nothing; nothing asked for is wrong usage, and so is no time."""
    assert "no upload is older than 7d" in wherry("gc", "--uploads").stderr
    for wrong in (("gc",), ("gc", "--uploads", "--older-than", "soon")):
        wherry(*wrong, exit_code=2)
    assert [name for name, _ in daemon.calls].count("CollectUploads") == 1


def test_nothing_is_said_of_google(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Of a store that lists no uploads it is said so, and what becomes of them."""
    said = wherry("gc", "--uploads", "--store", "gs://bucket").stderr
    assert "ends after a week" in said and "older than" not in said
