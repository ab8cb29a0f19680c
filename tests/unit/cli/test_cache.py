"""``wherry cache``."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon


def test_a_look_removes_something(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Without a size nothing is removed, and what there is is told."""
    said = wherry("cache", "status")
    assert said.stdout == "The cache holds 3.0 GiB of 20.0 GiB, in 1,000 files.\n"
    assert said.stderr == ""
    assert [call.HasField("most_bytes") for call in daemon.named("TrimCache")] == [False]


@pytest.mark.parametrize(
    ("size", "most_bytes"),
    [
        ("0", 0),
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 << 29),
        ("7", 7),
        ("2 kB", 2000),
        ("9.0 KiB", 9216),
    ],
)
def test_another_size_is_meant(
    daemon: FakeDaemon, wherry: Wherry, size: str, most_bytes: int
) -> None:
    """A size is read as in config.toml; what was removed is told beside what is left."""
    said = wherry("cache", "cleanup", size)
    assert said.stderr == "1 file removed, 1.0 GiB\n"
    assert [call.most_bytes for call in daemon.named("TrimCache")] == [most_bytes]


def test_keys_of_json_change(daemon: FakeDaemon, wherry: Wherry) -> None:
    """The keys are those that --help names."""
    assert json.loads(wherry("cache", "cleanup", "0", "--json").stdout) == {
        "bytes": 3 << 30,
        "files": 1_000,
        "quota_bytes": 20 << 30,
        "removed_bytes": 1 << 30,
        "removed_files": 1,
    }
