"""What imports bring in: the cost that every training script pays. Each is looked at in a new process."""

from __future__ import annotations

import subprocess
import sys

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
