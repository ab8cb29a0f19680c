"""What ``tests/conftest.py`` promises to every test, seen from a pytest run of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("conftest")  # the inner run is made once, not by each worker

_REPOSITORY = Path(__file__).resolve().parents[2]

_PROGRAM = """
import os, sys
from pathlib import Path

import pytest
from hypothesis import given, strategies
from wherryd import blocker

@given(strategies.integers())
def test_random(number):
    assert number is not None

def test_random_ones_are_marked(request):
    items = request.session.items
    assert [item.name for item in items if item.get_closest_marker("soak")] == ["test_random"]

def test_environment_is_clean(home):
    assert "AWS_PROFILE" not in os.environ
    assert "https_proxy" not in os.environ
    assert "WHERRY_STORE" not in os.environ
    assert os.environ["WHERRY_HOME"] == str(home)
    assert not home.exists()
    assert Path.home() != Path(os.environ["OUTER_HOME"])

def test_leaves_a_process(home):
    command = [sys.executable, "-c", "import time; time.sleep(300)"]
    pid = os.posix_spawn(sys.executable, command, os.environ)
    Path(os.environ["CHILD"]).write_text(f"{pid} {home}")

async def test_blocks():
    blocker.block()

@pytest.mark.blocks("shows that it may")
async def test_may_block():
    blocker.block()

def test_blocks_without_a_loop():
    blocker.block()

def test_is_skipped():
    pytest.skip("there is no mount")

@pytest.mark.skipif(True, reason="there is no systemd")
def test_is_marked():
    pass

@pytest.mark.skipif(True, reason="there is no systemd")
def test_systemd_misunderstands_the_unit():
    pass
"""


@pytest.fixture(scope="module")
def inner_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Run pytest on the program beside a copy of our conftest; give its output and its folder."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "tests").mkdir()
    for name in ("conftest.py", "soak.py"):
        shutil.copy(_REPOSITORY / "tests" / name, folder / "tests")
    shutil.copytree(_REPOSITORY / "tests/support", folder / "tests/support")
    shutil.copy(_REPOSITORY / "pyproject.toml", folder)
    (folder / "tests/test_program.py").write_text(_PROGRAM)
    (folder / "wherryd").mkdir()
    (folder / "wherryd/__init__.py").touch()
    (folder / "wherryd/blocker.py").write_text(
        "import time\n\ndef block() -> None:\n    time.sleep(0.001)\n"
    )
    environment = os.environ | {
        "OUTER_HOME": str(Path.home()),
        "CHILD": str(folder / "child"),
        "AWS_PROFILE": "somebody",
        "https_proxy": "http://127.0.0.1:1",
        "WHERRY_STORE": "file:///somewhere",
        "WHERRY_NO_SKIPS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr, folder


@pytest.mark.parametrize(
    "test",
    [
        "test_environment_is_clean",
        "test_leaves_a_process",
        "test_may_block",
        "test_blocks_without_a_loop",
    ],
)
def test_inner_test_fails(inner_run: tuple[str, Path], test: str) -> None:
    """Tests get a clean environment, and block only where no loop waits or their mark says so."""
    assert f"::{test} PASSED" in inner_run[0]


def test_random_test_is_left_out_of_the_soak(inner_run: tuple[str, Path]) -> None:
    """Every test for which hypothesis draws examples is marked, so that `make soak` draws many."""
    assert "::test_random_ones_are_marked PASSED" in inner_run[0]


def test_soak_has_no_test() -> None:
    """A module that asks whether it is soaked has a test that is run then."""
    files = (_REPOSITORY / "tests").rglob("test_*.py")
    texts = {path: path.read_text() for path in files if path != Path(__file__)}
    asking = {path for path, text in texts.items() if "from tests.soak import" in text}
    assert len(asking) > 5
    soaked = ("mark.soak", "@given(")
    assert {path for path in asking if not any(mark in texts[path] for mark in soaked)} == set()


def test_server_is_started_for_each_suite() -> None:
    """The servers of a session are imported in one place, so that each is one fixture."""
    texts = {path: path.read_text() for path in (_REPOSITORY / "tests").rglob("*.py")}
    wanted = re.compile(r"^from tests\.support\.fixtures import .*\b(seaweed|gcs)\b", re.MULTILINE)
    importing = [path for path, text in texts.items() if wanted.search(text)]
    assert importing == [_REPOSITORY / "tests/conftest.py"]


def test_blocking_on_the_loop_goes_unnoticed(inner_run: tuple[str, Path]) -> None:
    """An async test fails when the daemon's code makes a blocking call on the loop."""
    assert "::test_blocks FAILED" in inner_run[0]
    assert "BlockingError" in inner_run[0]


def test_skipped_test_goes_unnoticed(inner_run: tuple[str, Path]) -> None:
    """In CI a test that is skipped fails, however it is skipped, unless it is on the list."""
    assert "::test_is_skipped FAILED" in inner_run[0]
    assert "::test_is_marked ERROR" in inner_run[0]
    assert "test_is_marked must not be skipped here: there is no systemd" in inner_run[0]
    assert "::test_systemd_misunderstands_the_unit SKIPPED" in inner_run[0]


def test_process_outlives_its_test(inner_run: tuple[str, Path]) -> None:
    """What a test leaves running in its home is ended with it, and the home is removed."""
    pid, home = (inner_run[1] / "child").read_text().split()
    assert not Path(home).parent.exists()
    assert (
        not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    )
