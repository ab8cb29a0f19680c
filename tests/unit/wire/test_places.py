from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.errors import BadSetting
from wherry.wire import places


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_usual_umask")
def test_new_home_is_open_to_others(home: Path) -> None:
    """The home is made with mode 0700, whatever the umask, and its path is real."""
    assert places.home() == home.resolve()
    assert _mode(home) == 0o700
    assert places.home() == home.resolve()


@pytest.mark.usefixtures("home")
def test_default_home_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without WHERRY_HOME, or with an empty one, it is ~/.wherry."""
    expected = Path(os.environ["HOME"]).resolve() / ".wherry"
    assert places.home({}) == expected
    assert places.home({"WHERRY_HOME": ""}) == expected
    assert places.home({"WHERRY_HOME": "~/other"}) == expected.with_name("other")


def test_link_leads_to_another_socket(home: Path, tmp_path: Path) -> None:
    """A home reached by a symbolic link or from another folder is the same home."""
    real = places.home()
    link = tmp_path / "link"
    link.symlink_to(home)
    assert places.home({"WHERRY_HOME": str(link)}) == real
    assert places.home({"WHERRY_HOME": f"{link}/."}) == real
    assert places.socket_path(link) == places.socket_path(real)


def test_home_follows_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative home stays where it is when the program changes its folder: else it has a second daemon."""
    monkeypatch.chdir(tmp_path)
    found = places.home({"WHERRY_HOME": f"{tmp_path.name}-home"})
    (tmp_path / "outputs").mkdir()
    monkeypatch.chdir(tmp_path / "outputs")
    assert places.home({"WHERRY_HOME": f"{tmp_path.name}-home"}) == found


@pytest.mark.parametrize("names", [(), ("config.toml",), ("queue.db-wal", "spool", "store")])
def test_folder_made_for_wherry_stays_open(home: Path, names: tuple[str, ...]) -> None:
    """A folder that the user made, and that holds nothing foreign, is closed to others."""
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    for name in names:
        (home / name).touch()
    places.home()
    assert _mode(home) == 0o700


def test_shared_folder_is_closed(home: Path) -> None:
    """A folder that serves something else too is refused, and left as it is."""
    home.mkdir()
    home.chmod(0o755)
    (home / "thesis.tex").touch()
    with pytest.raises(BadSetting, match=r"thesis\.tex"):
        places.home()
    assert _mode(home) == 0o755


def test_another_users_folder_is_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of another user is refused."""
    home.mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    with pytest.raises(BadSetting, match="this is user 12345"):
        places.home()


def test_root_takes_a_users_default_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root with a user's $HOME (sudo) makes nothing there."""
    if os.geteuid() == 0:
        os.chown(os.environ["HOME"], 12_345, -1)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(BadSetting, match="as root"):
        places.home({})
    assert os.listdir(os.environ["HOME"]) == []


def test_file_in_the_way_goes_unexplained(home: Path) -> None:
    """A home that can't be a folder is an error that names it."""
    home.write_text("")
    for path in (home, home / "below"):
        with pytest.raises(BadSetting, match=str(home)):
            places.home({"WHERRY_HOME": str(path)})


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\udcff"])
def test_home_with_an_odd_name_breaks_something_else(tmp_path: Path, name: str) -> None:
    """A path that can't stand in an address or a message is refused as such, and nothing is made."""
    with pytest.raises(BadSetting, match="home's path"):
        places.home({"WHERRY_HOME": str(tmp_path / name)})
    assert os.listdir(tmp_path) == []


# ── the socket ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def long_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home whose socket can't be in it."""
    monkeypatch.setenv("WHERRY_HOME", str(tmp_path / ("é" * 50)))
    return places.home()


def _short_folder() -> Path:
    return Path(f"/tmp/wherry-{os.geteuid()}")


@pytest.mark.parametrize("length", [100, 101])
def test_socket_path_is_too_long_to_bind(tmp_path: Path, length: int) -> None:
    """In the home up to 100 bytes; beyond, in a place of the user's own. Either can be bound."""
    prefix = len(os.fsencode(tmp_path.resolve())) + len("//daemon.sock")
    home = tmp_path.resolve() / ("x" * (length - prefix))
    home.mkdir(mode=0o700)
    path = places.socket_path(home)
    assert (path.parent == home) == (length == 100)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    path.unlink()


def test_short_path_is_not_the_users_alone(long_home: Path) -> None:
    """Without XDG_RUNTIME_DIR it is in /tmp/wherry-<uid>, mode 0700, named by the home's hash."""
    path = places.socket_path(long_home)
    assert path.parent == _short_folder()
    assert _mode(path.parent) == 0o700
    assert path.name.startswith("wherry-")
    assert len(path.stem) == len("wherry-") + 16


def test_processes_disagree_about_the_socket(
    long_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes first says where; others follow, whatever their XDG_RUNTIME_DIR."""
    runtime = Path(os.environ["HOME"]) / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    first = places.socket_path(long_home)
    assert first.parent == runtime
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert places.socket_path(long_home) == first
    runtime.rmdir()  # the login session is over
    assert places.socket_path(long_home).parent == _short_folder()


def test_killed_publisher_leaves_half_a_path(long_home: Path) -> None:
    """A process that is killed right before it publishes leaves nothing that others would follow."""
    program = "import sys; from wherry.wire import places; places.socket_path(sys.argv[1])"
    environ = {**os.environ, "WHERRY_FAILPOINT": "places.socket.before-publish"}
    killed = subprocess.run([sys.executable, "-c", program, long_home], env=environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (long_home / places.SOCKET_ELSEWHERE).exists()
    path = places.socket_path(long_home)
    assert (long_home / places.SOCKET_ELSEWHERE).read_text() == str(path)


@pytest.mark.parametrize("trouble", ["open to others", "missing", "relative", "too long"])
def test_bad_runtime_folder_is_used(
    long_home: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """An XDG_RUNTIME_DIR that is not private, absolute and short is passed over."""
    runtime = Path(os.environ["HOME"]) / ("r" * (90 if trouble == "too long" else 3))
    if trouble != "missing":
        runtime.mkdir(mode=0o700)
    if trouble == "open to others":
        runtime.chmod(0o755)
    monkeypatch.chdir(runtime.parent)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "rrr" if trouble == "relative" else str(runtime))
    assert places.socket_path(long_home).parent == _short_folder()


def test_squatted_folder_is_used(long_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /tmp/wherry-<uid> that another user made, or a symbolic link, is refused."""
    uid = os.getpid() + 100_000_000  # nobody's
    squatted = Path(f"/tmp/wherry-{uid}")
    monkeypatch.setattr("os.geteuid", lambda: uid)
    squatted.mkdir(mode=0o700)  # by us, who are not that user
    try:
        with pytest.raises(BadSetting, match=str(squatted)):
            places.socket_path(long_home)
    finally:
        squatted.rmdir()
    squatted.symlink_to(long_home)
    try:
        with pytest.raises(BadSetting, match=str(squatted)):
            places.socket_path(long_home)
    finally:
        squatted.unlink()
