"""What every test gets: a home of its own, a clean environment, and a loop that nobody blocks."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.soak import SOAK
from tests.support.apart import lay_apart
from tests.support.fixtures import gcs, google, moto, rclone, seaweed
from tests.support.skips import pytest_runtest_makereport

__all__ = [
    "gcs",
    "google",
    "moto",
    "pytest_runtest_makereport",
    "rclone",
    "seaweed",
]  # for pytest, which looks for them here

# kill -USR1 shows where a test that hangs is.
faulthandler.register(signal.SIGUSR1, all_threads=True)

# The few are the same each time, so that a commit is not blamed for another's fault; the many are not.
settings.register_profile("few", max_examples=30, deadline=None, print_blob=True, derandomize=True)
settings.register_profile(
    "soak",
    max_examples=3_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("soak" if SOAK else "few")

_KEPT = {"WHERRY_SOAK"}
_FOREIGN = {"KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID", "XDG_RUNTIME_DIR"}
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every test that hypothesis draws examples for: it is a random one."""
    if is_hypothesis_test(getattr(item, "obj", None)):
        item.add_marker("soak")


def pytest_collection_finish() -> None:
    """Let the collector pass over thousands of tests and their modules, which stay to the end.

    A child that a test forks, and a test that collects, would else go through half a gigabyte each time.
    """
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all homes of a session are; these and the tests' folders lie apart from each other."""
    lay_apart(tmp_path_factory.getbasetemp())
    # Not below tmp_path, whose length would move the socket out of the home.
    with tempfile.TemporaryDirectory(prefix="wherry-", ignore_cleanup_errors=True) as folder:
        lay_apart(Path(folder))
        yield Path(folder)


@pytest.fixture(autouse=True)
def home(_homes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a ``WHERRY_HOME`` of its own; end what it left running there."""
    before = _processes()
    root = Path(tempfile.mkdtemp(prefix="", dir=_homes))
    _clear_environment(monkeypatch)
    home = root / "home"
    monkeypatch.setenv("HOME", str(root / "user"))
    monkeypatch.setenv("WHERRY_HOME", str(home))
    # Without this the end of a script would differ between a container and a workstation.
    monkeypatch.setenv("WHERRY_HOME_LASTS", "yes")
    # botocore would ask the network for credentials that a test did not give.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (root / "user").mkdir()
    yield home
    # What was there before the home was does not know it; to look at all takes as long as a small test.
    _kill_processes_of(root, _processes() - before)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def _loop_is_never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an async test in which the daemon's code makes a blocking call on the loop."""
    if request.node.get_closest_marker("blocks") or not request.node.get_closest_marker("asyncio"):
        yield
        return
    with blockbuster_ctx("wherryd") as guard:
        # Looks at a few rows of the queue are made on the loop (decision 0013).
        for name, function in guard.functions.items():
            if name.startswith("sqlite3."):
                function.can_block_in("wherryd/queue/database.py", "look")
        yield


def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        ours = name.startswith(("WHERRY_", "AWS_")) and name not in _KEPT
        if ours or name in _FOREIGN or name.lower() in _PROXIES:
            monkeypatch.delenv(name)


def _processes() -> set[str]:
    return {name for name in os.listdir("/proc") if name.isdigit()}


def _kill_processes_of(root: Path, processes: Iterable[str]) -> None:
    for process in processes:
        # It may end, or belong to somebody else, while it is looked at.
        with contextlib.suppress(OSError):
            if os.fsencode(root) in Path("/proc", process, "environ").read_bytes():
                os.kill(int(process), signal.SIGKILL)
