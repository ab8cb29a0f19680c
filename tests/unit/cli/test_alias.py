"""``wherry alias``."""

from __future__ import annotations

import json

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon
from wherry.wire import wherry_pb2 as pb


def _found(daemon: FakeDaemon) -> None:
    daemon.found = [pb.Version(project="cats", name="model", version=3, aliases=["old"])]


def test_another_version_is_named(daemon: FakeDaemon, wherry: Wherry) -> None:
    """The version that is meant gets all the aliases."""
    _found(daemon)
    said = wherry("alias", "cats/model:v3", "best", "prod")
    assert "model:v3" in said.stdout and "old best prod" in said.stdout
    (asked,) = daemon.named("EditVersion")
    assert (asked.project, asked.name, asked.version) == ("cats", "model", 3)
    assert (list(asked.add_aliases), list(asked.remove_aliases)) == (["best", "prod"], [])
    assert not asked.HasField("metadata")
    assert [call.version for call in daemon.named("GetVersion")] == ["v3"]


def test_an_alias_stays(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Removed, it is looked for where it is."""
    _found(daemon)
    (changed,) = json.loads(wherry("alias", "--remove", "model", "old", "--json").stdout)
    assert changed == {"name": "model", "version": "v3", "aliases": []}
    (asked,) = daemon.named("EditVersion")
    assert (list(asked.add_aliases), list(asked.remove_aliases)) == ([], ["old"])
    assert [call.version for call in daemon.named("GetVersion")] == ["old"]
