"""What the daemon's unit tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.daemon.bench import Bench, opened_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """One home without a daemon."""
    async with opened_bench(tmp_path / "home") as bench:
        yield bench
