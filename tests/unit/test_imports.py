"""What imports bring in: the cost that every training script pays. Each is looked at in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_HEAVY = {"sqlite3", "aiohttp", "aiobotocore", "asyncio", "h2", "grpc", "google.protobuf"}


def _modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import wherry", "import wherry.errors", "import wherry.cli", "from wherry import *"],
)
def test_light_import_grows_heavy(code: str) -> None:
    """`import wherry` loads nothing that is only needed when something is logged."""
    assert not _modules_after(code) & _HEAVY


def test_heavy_modules_go_unseen() -> None:
    """The look into sys.modules finds what is there."""
    assert _modules_after("import asyncio") & _HEAVY == {"asyncio"}


@pytest.mark.parametrize("code", ["import wherry", "import wherry.wire"])
def test_client_imports_the_daemon(code: str) -> None:
    """The client runs where the daemon's packages are not installed."""
    assert not [name for name in _modules_after(code) if name.partition(".")[0] == "wherryd"]


def test_messages_need_grpc() -> None:
    """The generated messages need protobuf alone."""
    loaded = _modules_after("import wherry.wire.wherry_pb2")
    assert "google.protobuf" in loaded
    assert not loaded & (_HEAVY - {"google.protobuf"})


def test_a_daemon_loads_what_it_does_not_use(tmp_path: Path) -> None:
    """A daemon's start loads nothing for colours, other packages' resolvers, S3 or HTTP clients: it is what a
    program's first log waits for.
    """
    home = tmp_path / "home"
    home.write_text("a file, where nobody can live")
    loaded = _modules_after(
        "from wherryd.__main__ import main\n"
        f"assert main(['--home', {str(home)!r}]) == 1\n"
        "import wherryd.app"
    )
    assert "structlog" in loaded
    assert not loaded & {
        "rich.console",
        "importlib.metadata",
        "aiohttp",
        "botocore",
        "aiobotocore.session",
    }
