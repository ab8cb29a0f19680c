from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wherry import detach, launch
from wherry.errors import DaemonMissing, DaemonNotStarted
from wherry.wire import places


def _program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an interpreter of its own, with the light client, and an empty PATH."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "own"))
    monkeypatch.setenv("PATH", f"{tmp_path}/own/bin:{tmp_path}/usr/bin:{tmp_path}/tool/bin")
    monkeypatch.setattr(launch, "_PACKAGES", ("no_such_package_here",))
    _program(tmp_path / "own/bin/wherryd")
    return tmp_path


def test_setting_is_passed_over() -> None:
    """The setting `daemon` is a command line, and wins."""
    assert launch.find_command("nice -n 5 '/a b/wherryd'") == ["nice", "-n", "5", "/a b/wherryd"]


def test_own_daemon_is_passed_over(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This interpreter's `wherryd` wins where its packages are here."""
    _program(machine / "usr/bin/wherryd")
    monkeypatch.setattr(launch, "_PACKAGES", ("json",))
    assert launch.find_command() == [str(machine / "own/bin/wherryd")]


def test_light_clients_wherryd_is_started(machine: Path) -> None:
    """Without its packages the own `wherryd` can't run: the next one on PATH is it."""
    other = _program(machine / "tool/bin/wherryd")
    assert launch.find_command() == [other]


def test_missing_daemon_goes_unexplained(machine: Path) -> None:
    """Where there is no daemon, the error says how to install one."""
    with pytest.raises(DaemonMissing, match=r"uv tool install 'wherry\[daemon\]'"):
        launch.find_command()


def test_packages_are_not_the_daemons() -> None:
    """This environment has the daemon's packages, under the names that are looked for."""
    assert launch._has_packages()


def test_another_environments_modules_are_passed_on(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon in another environment does not get this one's PYTHONPATH."""
    monkeypatch.setenv("PYTHONPATH", "/training")
    assert "PYTHONPATH" not in launch._environment(machine, [f"{machine}/tool/bin/wherryd"])
    assert launch._environment(machine, [f"{machine}/own/bin/wherryd"])["PYTHONPATH"] == "/training"


def test_embedding_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a program that embeds Python, its Python is found, and the program is not started again."""
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "blender"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "base"))
    with pytest.raises(DaemonNotStarted, match="by hand"):
        launch._interpreter()
    found = _program(tmp_path / "base/bin/python3")
    assert launch._interpreter() == found


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "exit 3"], 3), (["/no/such/command"], 127)]
)
def test_end_of_the_command_goes_unnoticed(command: list[str], code: int) -> None:
    """What stands between ends with the command, and with its exit code."""
    start = [sys.executable, "-I", "-S", detach.__file__, *command]
    assert subprocess.run(start, check=False, capture_output=True).returncode == code


def test_log_grows_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is set aside when the next daemon is started."""
    home.mkdir()
    log = home / places.LOG
    assert launch._roll(log) == 0
    log.write_bytes(bytes(100))
    assert launch._roll(log) == 100
    monkeypatch.setattr(launch, "_LOG_BYTES", 100)
    assert launch._roll(log) == 0
    assert not log.exists()
    assert (home / f"{places.LOG}.old").stat().st_size == 100


def test_gone_home_goes_unexplained(home: Path) -> None:
    """A home that is not there any more is an error that names it."""
    with pytest.raises(DaemonNotStarted, match=str(home)):
        launch.connect_or_start(home, lambda: None)


def test_root_starts_another_users_daemon(home: Path) -> None:
    """In a home that belongs to another user no daemon is started: not by root, whom nothing stops, and not
    by a user who can get in; the error says whose it is.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can give a home away")
    for folder in (home.parent, home.parent.parent):
        folder.chmod(0o755)
    home.mkdir(mode=0o777)
    home.chmod(0o777)

    def said_by(user: int) -> str:
        source = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from wherry import launch\n"  # before the user, who may not read this environment
            "import wherry.wire.settings, wherry.wire.address, subprocess, shlex\n"
            f"os.setgroups([]); os.setgid({user}); os.setuid({user})\n"
            "try:\n"
            "    launch.connect_or_start(Path(sys.argv[1]), lambda: None)\n"
            "except launch.DaemonNotStarted as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", source, str(home)],
            env={**os.environ, "WHERRY_DAEMON": "/bin/false"},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    nobody = 65534
    assert "belongs to another user" in said_by(nobody)
    os.chown(home, nobody, nobody)
    assert "belongs to another user" in said_by(0)
    assert not (home / places.LOG).exists(), "a daemon was started"
    (home / places.SPAWN_LOCK).unlink()
    said = said_by(nobody)  # whether or not it finds this environment's interpreter
    assert said and "belongs to another user" not in said


def test_spawn_lock_outlives_its_process(home: Path) -> None:
    """A child does not inherit the spawn lock: it can't have it while the parent does, nor keep it."""
    home.mkdir()

    def child_sees() -> int:
        child = os.fork()
        if not child:
            with launch._spawn_lock(home) as mine:
                os._exit(mine)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with launch._spawn_lock(home) as mine:
        assert mine
        assert child_sees() == 0
    assert child_sees() == 1


@pytest.mark.parametrize(("end", "starts"), [("exit 0", 5), ("kill -9 $$", 5), ("exit 1", 1)])
def test_daemon_that_is_ended_at_its_start_is_missed(
    home: Path, monkeypatch: pytest.MonkeyPatch, end: str, starts: int
) -> None:
    """A daemon that is told to end, or killed, while it starts is started again, a few times; one that
    can't start is not.
    """
    home.mkdir(mode=0o700)
    script = home / "wherryd"
    script.write_text(f"echo >> {home}/starts\n{end}\n")
    monkeypatch.setenv("WHERRY_DAEMON", f"sh {script}")
    monkeypatch.setattr(launch, "_KILLED_S", 0.0)

    def began() -> int:
        return (home / "starts").read_text().count("\n") if (home / "starts").exists() else 0

    with pytest.raises(DaemonNotStarted):
        launch.connect_or_start(home, lambda: None)
    assert began() == starts
    assert launch.connect_or_start(home, lambda: began() > starts or None) is True


def test_killer_is_waited_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who kills daemons for some seconds is no reason to give up; the next start counts."""
    home.mkdir(mode=0o700)
    script = home / "wherryd"
    script.write_text(f"echo >> {home}/starts\nkill -9 $$\n")
    monkeypatch.setenv("WHERRY_DAEMON", f"sh {script}")

    def connect() -> bool | None:
        starts = home / "starts"
        return True if starts.exists() and starts.read_text().count("\n") >= 8 else None

    assert launch.connect_or_start(home, connect) is True


def test_open_files_are_taken_for_a_full_disk(tmp_path: Path) -> None:
    """Where this process has too many files open, the remedy is not another home."""

    def connect() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(DaemonNotStarted, match="Too many open files") as raised:
        launch.connect_or_start(tmp_path, connect)
    assert "ulimit -n" in str(raised.value)
