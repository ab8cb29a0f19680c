"""The service managers' files say what the daemon does."""

from __future__ import annotations

import configparser
import os
import plistlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[3]
_PACKAGING = _REPOSITORY / "packaging"
_UNIT = _PACKAGING / "wherryd.service"
_PLIST = _PACKAGING / "wherry.wherryd.plist"

# Running steps get this long after SIGTERM (packaging/README.md, "Linux: a systemd user unit").
_DRAIN_S = 10


@pytest.fixture
def commands() -> set[str]:
    """Name the console scripts that the distribution installs."""
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())
    return set(project["project"]["scripts"])


@pytest.fixture
def unit() -> configparser.ConfigParser:
    """Parse the systemd unit."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(_UNIT)
    return parser


@pytest.fixture
def agent() -> dict[str, object]:
    """Parse the launchd agent."""
    with _PLIST.open("rb") as file:
        return plistlib.load(file)


def test_unit_starts_something_else(unit: configparser.ConfigParser, commands: set[str]) -> None:
    """The unit starts a command that the distribution installs, from the user's own folder."""
    path, *options = unit["Service"]["ExecStart"].split()
    assert path.startswith("%h/.local/bin/")
    assert Path(path).name in commands
    assert options == ["--stay"]


def test_agent_starts_something_else(agent: dict[str, object], commands: set[str]) -> None:
    """The agent starts the same command, by a shell that knows the user's folder."""
    shell, option, line = agent["ProgramArguments"]  # type: ignore[misc]
    assert (shell, option) == ("/bin/sh", "-c")
    (path,) = re.findall(r'exec "\$HOME/\.local/bin/(\S+)" --stay', line)
    assert path in commands


def test_daemon_is_killed_while_it_drains(
    unit: configparser.ConfigParser, agent: dict[str, object]
) -> None:
    """Both leave the daemon longer than it takes to drain, and signal it alone."""
    assert int(unit["Service"]["TimeoutStopSec"]) > _DRAIN_S
    assert unit["Service"]["KillMode"] == "mixed"
    assert int(str(agent["ExitTimeOut"])) > _DRAIN_S


def test_asked_for_end_counts_as_failure(
    unit: configparser.ConfigParser, agent: dict[str, object]
) -> None:
    """A daemon that ended as asked stays ended; one that crashed is started again."""
    assert unit["Service"]["Restart"] == "on-failure"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}


def test_label_differs_from_the_file(agent: dict[str, object]) -> None:
    """launchd wants an agent's file named after its label."""
    assert f"{agent['Label']}.plist" == _PLIST.name


@pytest.mark.parametrize("option", ["ProtectHome", "ProtectSystem", "PrivateTmp", "PrivateUsers"])
def test_unit_hides_the_users_files(unit: configparser.ConfigParser, option: str) -> None:
    """No hardening that puts the daemon into a namespace of its own."""
    assert option not in unit["Service"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_misunderstands_the_unit(tmp_path: Path) -> None:
    """Systemd knows every directive of the unit."""
    # It also looks whether the command is there, which only an installed daemon could satisfy.
    text = _UNIT.read_text().replace("%h/.local/bin/wherryd", sys.executable)
    (tmp_path / _UNIT.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", tmp_path / _UNIT.name],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    # It tells of an unknown key without failing, and of units that are not ours.
    assert not [line for line in done.stderr.splitlines() if _UNIT.name in line]


def test_guide_names_missing_files() -> None:
    """Every file that the packaging guide installs is there, and every file is in the guide."""
    guide = (_PACKAGING / "README.md").read_text()
    files = {path.name for path in _PACKAGING.iterdir()} - {"README.md"}
    assert files == set(re.findall(r"\b(?:wherryd\.service|wherry\.wherryd\.plist)\b", guide))


_WHERRY = """#!/bin/sh
echo "$HOME $WHERRY_HOME $*" > "$HOME/told"
exit 1
"""


def test_epilog_fails_or_finds_no_command(tmp_path: Path) -> None:
    """Slurm's epilog drains as the user, with the user's command and home, and never fails itself."""
    guide = (_PACKAGING / "README.md").read_text()
    (epilog,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", guide, re.DOTALL)
    user, home = tmp_path / "home/jane", tmp_path / "scratch/jane/wherry"
    home.mkdir(parents=True)
    fakes = {
        user / ".local/bin/wherry": _WHERRY,
        tmp_path / "bin/getent": f"#!/bin/sh\necho $2:x:1000:1000::{user}:/bin/sh\n",
        tmp_path
        / "bin/runuser": '#!/bin/sh\n[ "$1 $2 $3" = "-u jane --" ] && shift 3 && exec "$@"\n',
    }
    for path, text in fakes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", epilog.replace("/scratch/", f"{tmp_path}/scratch/")],
        env={"SLURM_JOB_USER": "jane", "PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (user / "told").read_text() == f"{user} {home} drain --timeout 60s\n"
