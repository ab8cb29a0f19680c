"""What the wheel carries, and what it asks for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("wheel")  # it is built once, not by each worker

_REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build the wheel as an installer would, with the build tool that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=_REPOSITORY,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("wherry-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """Parse the wheel's METADATA."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


@pytest.mark.parametrize(
    "path",
    [
        "wherry/py.typed",
        "wherry/wire/wherry_pb2.py",
        "wherry/wire/wherry_pb2.pyi",
        "wherryd/py.typed",
        "wherryd/queue/schema.sql",
    ],
)
def test_wheel_lacks_a_file(wheel: zipfile.ZipFile, path: str) -> None:
    """Both packages are typed, and come with their generated code and their SQL."""
    assert path in wheel.namelist()


def test_wheel_lacks_the_license(wheel: zipfile.ZipFile) -> None:
    """The wheel carries the licence's text."""
    (name,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
    assert wheel.read(name) == (_REPOSITORY / "LICENSE").read_bytes()


def test_wheel_carries_more_than_the_packages(wheel: zipfile.ZipFile) -> None:
    """Only the two packages and their metadata are installed."""
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"wherry", "wherryd"}


def test_source_file_is_left_out(wheel: zipfile.ZipFile) -> None:
    """Every file of the packages is in the wheel, whatever its kind."""
    sources = {
        path.relative_to(_REPOSITORY / side).as_posix()
        for side, package in (("client", "wherry"), ("daemon", "wherryd"))
        for path in (_REPOSITORY / side / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(wheel.namelist())


def test_bare_install_grows_heavy(metadata: Message) -> None:
    """Without extras a training environment gets protobuf and h2, and nothing else."""
    needs = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split(">")[0].split("<")[0].strip() for line in needs) == ["h2", "protobuf"]


def test_command_is_lost(wheel: zipfile.ZipFile) -> None:
    """Both commands are installed."""
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "wherry = wherry.cli:main" in text
    assert "wherryd = wherryd.__main__:main" in text
