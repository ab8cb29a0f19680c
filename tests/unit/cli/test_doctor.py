"""``wherry doctor``: what it looks at, and that what is wrong is told with a remedy."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, Refusal, pb, request
from wherry.cli.checks import disk_problems, unknown_variables, work_problems
from wherry.cli.disk import Disk, find_mount, look_at
from wherry.wire import VERSION, places
from wherry.wire.settings import FILE_ONLY, WITHOUT_EFFECT

_GIB = 1 << 30
_FINE = Disk("ext4", "/", free_bytes=9 * _GIB, total_bytes=99 * _GIB, free_inodes=10**6)
_MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw shared:5 - nfs4 server:/home rw
31 22 8:2 / /home\040local rw - xfs /dev/sdb1 rw
32 31 0:40 / /home\040local/cache rw - fuse.sshfs host: rw
33 31 0:41 / /home\040local/cache rw - tmpfs tmpfs rw
"""


def test_healthy_machine_is_ill(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """Where nothing is wrong it says so, with all that it looked at."""
    found = as_json("doctor")
    assert (found["ok"], found["problems"]) == (True, [])
    assert found["daemon"]["running"] is True
    assert found["store"] == {
        "address": f"file://{daemon.home}/store",
        "readable": True,
        "error": None,
    }
    assert found["home"]["path"] == str(daemon.home)
    assert found["home"]["total_bytes"] >= found["home"]["free_bytes"] > 0
    assert found["versions"]["wherry"] == VERSION


def test_source_of_a_setting_is_wrong(
    daemon: FakeDaemon, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """Each setting is shown with its value and where that came from."""
    monkeypatch.setenv("WHERRY_PROJECT", "cats")
    file = daemon.home / "config.toml"
    file.write_text('log_level = "debug"\n')
    found = {each["name"]: each for each in as_json("doctor")["settings"]}
    fine = {"has_effect": True}
    assert found["home"] == {
        "name": "home",
        "value": str(daemon.home),
        "source": "WHERRY_HOME",
        **fine,
    }
    assert found["project"] == {
        "name": "project",
        "value": "cats",
        "source": "WHERRY_PROJECT",
        **fine,
    }
    assert found["log_level"] == {
        "name": "log_level",
        "value": "debug",
        "source": str(file),
        **fine,
    }
    assert found["mode"] == {"name": "mode", "value": "online", "source": "default", **fine}


def test_misspelt_setting_counts_for_nothing(
    daemon: FakeDaemon, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """A name that is no setting is a problem, in the environment and in the file."""
    monkeypatch.setenv("WHERRY_STROE", "/data")
    (daemon.home / "config.toml").write_text('proyect = "cats"\n')
    told = [each["what"] for each in as_json("doctor", exit_code=1)["problems"]]
    assert any("WHERRY_STROE" in what for what in told)
    assert any("proyect" in what for what in told)


def test_setting_without_effect_looks_as_if_it_held(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """What is read and not heeded yet is marked, and no other setting."""
    file = daemon.home / "config.toml"
    file.write_text("capture = 'copy'\n")
    marked = {each["name"] for each in as_json("doctor")["settings"] if not each["has_effect"]}
    assert marked == WITHOUT_EFFECT
    (line,) = [line for line in wherry("doctor").stdout.splitlines() if "config.toml" in line]
    assert line.endswith("config.toml, without effect yet")


def test_parts_of_killed_uploads_cost_money_for_ever(
    daemon: FakeDaemon, wherry: Wherry, as_json: Callable[..., Any]
) -> None:
    """For a bucket the lifecycle rule that it should have is named, as advice and no problem."""
    assert as_json("doctor")["advice"] == []
    told = wherry("doctor", "--store", "s3://bucket/runs").stdout
    assert "AbortIncompleteMultipartUpload" in told
    assert "all is well" in told


def test_a_promise_is_forgotten(daemon: FakeDaemon, wherry: Wherry) -> None:
    """What the user promised of a store is told, without being asked."""
    store = "s3://bucket/runs?commit=single-writer"
    assert "this home alone writes" in wherry("doctor", "--store", store).stdout
    assert "alone" not in wherry("doctor", "--store", "s3://bucket/runs").stdout


def test_our_own_variable_is_misspelt() -> None:
    """Variables that Wherry reads are no problem."""
    ours = ("HOME", "STORE", "RUN_GROUP", "FINISH_TIMEOUT", "DAEMON", "FAILPOINT")
    assert unknown_variables({f"WHERRY_{name}": "x" for name in ours}) == []


def test_bad_setting_ends_the_looking(
    daemon: FakeDaemon, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """A setting that can't be used is a problem among others, not the end."""
    monkeypatch.setenv("WHERRY_MODE", "sideways")
    found = as_json("doctor", exit_code=1)
    assert "WHERRY_MODE" in found["problems"][0]["what"]
    assert found["home"]["total_bytes"] > 0
    assert found["daemon"]["running"] is False


def test_unusable_home_ends_the_looking(
    home: Path, as_json: Callable[..., Any], wherry: Wherry
) -> None:
    """A home that can't be used is told with its remedy."""
    home.write_text("no folder")
    (problem,) = as_json("doctor", exit_code=1)["problems"]
    assert str(home) in problem["what"] and "WHERRY_HOME" in problem["remedy"]
    assert "1 problem" in wherry("doctor", exit_code=1).stdout


def test_deaf_daemon_is_told_as_none(
    home: Path, wherry: Wherry, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """Of a daemon that does not answer nobody says that none runs."""
    monkeypatch.setattr("wherry.greeting._HELLO_S", 0.1)
    home.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / places.SOCKET))
        listening.listen()
        assert as_json("doctor", exit_code=1)["daemon"] is None
        assert "it does not answer" in wherry("doctor", exit_code=1).stdout


def test_missing_daemon_ends_the_looking(as_json: Callable[..., Any], monkeypatch: Any) -> None:
    """A daemon that can't be started is a problem, and the disk is looked at all the same."""
    monkeypatch.setenv("WHERRY_DAEMON", "/bin/false")
    found = as_json("doctor", exit_code=1)
    assert len(found["problems"]) == 1
    assert found["daemon"]["running"] is False
    assert found["home"]["total_bytes"] > 0


def test_dead_store_looks_fine(daemon: FakeDaemon, as_json: Callable[..., Any]) -> None:
    """A store that can't be read is a problem; another one may be asked for."""
    daemon.refusals["ListArtifacts"] = Refusal("AccessRefused", "the secret is wrong\n  change it")
    found = as_json("doctor", "--store", "/data", exit_code=1)
    assert found["store"]["readable"] is False
    assert found["store"]["address"] == "file:///data"
    assert found["problems"] == [{"what": "the secret is wrong", "remedy": "change it"}]


def test_trouble_in_the_queue_is_not_seen() -> None:
    """Failures, lanes that stand still and requests that wait are problems, with their reasons."""
    status = pb.StatusReply(
        requests=[
            request(1, state="failed", reason="changed\n  add it again"),
            request(2, state="prepared", error="StoreUnavailable", reason="no answer"),
            request(3),
        ],
        stopped=[pb.LaneState(project="cats", name="x", reason="another store")],
    )
    told = [problem.what for problem in work_problems(status)]
    assert told == [
        "1 artifact stands still: another store",
        "1 request failed: changed",
        "1 request waits (StoreUnavailable): no answer",
    ]
    assert list(work_problems(pb.StatusReply(requests=[request(3)]))) == []


@pytest.mark.parametrize(
    ("disk", "named"),
    [
        (_FINE, ""),
        (_FINE._replace(free_inodes=None), ""),
        (_FINE._replace(filesystem="nfs4"), "nfs4"),
        (_FINE._replace(filesystem="fuse.sshfs"), "fuse.sshfs"),
        (_FINE._replace(free_bytes=_GIB // 2), "512.0 MiB"),
        (_FINE._replace(free_inodes=7), "7 files"),
    ],
)
def test_bad_disk_looks_fine(disk: Disk, named: str) -> None:
    """A network filesystem, a full disk and one without inodes are problems with a remedy."""
    problems = list(disk_problems(Path("/home/u/.wherry"), disk))
    assert [named in problem.what and bool(problem.remedy) for problem in problems] == (
        [True] if named else []
    )


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/", ("/", "ext4")),
        ("/var/tmp", ("/", "ext4")),
        ("/home", ("/home", "nfs4")),
        ("/home/u/.wherry", ("/home", "nfs4")),
        ("/homes/u", ("/", "ext4")),
        ("/home local/u", ("/home local", "xfs")),
        ("/home local/cache/u", ("/home local/cache", "tmpfs")),
    ],
)
def test_wrong_filesystem_is_named(folder: str, found: tuple[str, str]) -> None:
    """The longest mount point above the folder counts, by segments, and the last one mounted."""
    assert find_mount(folder, _MOUNTS.split("\n")[1:-1]) == found


def test_mount_table_is_missing() -> None:
    """Where the system has no such table, the filesystem is unknown."""
    assert find_mount("/x", []) == ("", "")


def test_own_disk_is_not_found(tmp_path: Path) -> None:
    """The disk of a real folder has a type, a mount point above it, and room."""
    disk = look_at(tmp_path)
    assert disk.filesystem
    assert str(tmp_path.resolve()).startswith(disk.mount)
    assert 0 < disk.free_bytes <= disk.total_bytes


def test_report_for_people_lacks_a_part(daemon: FakeDaemon, wherry: Wherry) -> None:
    """People read settings, machine, versions and the verdict."""
    shown = wherry("doctor").stdout
    for text in ("WHERRY_HOME", str(daemon.home / "daemon.sock"), "grpcio", "all is well"):
        assert text in shown


@pytest.mark.parametrize("name", FILE_ONLY)
def test_variable_that_nothing_reads_looks_fine(name: str) -> None:
    """A variable for what is read from the file only is a problem, which says where to write it."""
    (problem,) = unknown_variables({f"WHERRY_{name.upper()}": "x"})
    assert "config.toml" in problem.what and f"{name} =" in problem.remedy


@pytest.mark.parametrize("name", ["HOME_ID", "SOURCES", "UNKNOWN", "PROJEKT"])
def test_variable_that_is_no_setting_looks_fine(name: str) -> None:
    """A variable that is no setting is a problem, also where its name means something inside."""
    (problem,) = unknown_variables({f"WHERRY_{name}": "x"})
    assert "no setting" in problem.what


def test_long_message_is_one_line(wherry: Wherry, home: Path, monkeypatch: Any) -> None:
    """What a daemon that can't start has said is shown line by line."""
    command = home.parent / "broken"
    command.write_text("#!/bin/sh\necho no luck here >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("WHERRY_DAEMON", str(command))
    shown = wherry("doctor", exit_code=1).stdout
    assert "\\n" not in shown
    assert any(line.strip() == "no luck here" for line in shown.splitlines())
