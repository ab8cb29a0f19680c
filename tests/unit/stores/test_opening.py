"""From an address to a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.stores.helpers import TestClock
from wherry.errors import BadURI, StoreMissing
from wherry.wire.address import normalize_store
from wherryd.stores.opening import make_folder, open_store


@pytest.mark.parametrize(
    "uri",
    ["file:///some/where", "file:///a%20b/c%25", "s3://bucket/p/q?region=r&endpoint_url=http://h"],
)
async def test_a_store_has_another_address(uri: str) -> None:
    """A store's address is the one that it was opened by, in its one spelling."""
    address = normalize_store(uri, {})
    store = open_store(address, None, TestClock())
    assert store.address == address
    await store.aclose()


def test_an_unknown_scheme_is_opened() -> None:
    """An address without an adapter is an error that names those there are."""
    with pytest.raises(BadURI, match="file://"):
        open_store("ftp://host/x", None, TestClock())


async def test_a_folder_store_looks_into_another_folder(tmp_path: Path) -> None:
    """Percent-encoded parts of a folder's address are decoded once."""
    folder = tmp_path / "100% %25 é"
    folder.mkdir()
    store = open_store(normalize_store(str(folder), {}), None, TestClock())
    await store.put("key", b"x")
    assert (folder / "key").read_bytes() == b"x"


async def test_a_disk_that_is_not_mounted_gets_a_store(tmp_path: Path) -> None:
    """Only the last part of a folder is made, and only by ``make_folder``."""
    address = normalize_store(str(tmp_path / "home" / "store"), {})
    with pytest.raises(StoreMissing):
        await make_folder(address)
    (tmp_path / "home").mkdir()
    with pytest.raises(StoreMissing, match="mkdir -p"):
        await open_store(address, None, TestClock()).put("key", b"x")
    assert not (tmp_path / "home" / "store").exists()
    await make_folder(address)
    await make_folder(address)
    await open_store(address, None, TestClock()).put("key", b"x")


def test_a_folder_loads_what_only_s3_needs() -> None:
    """Neither aiohttp nor botocore is imported until an S3 store is opened."""
    program = (
        "import sys; from wherryd.clock import SystemClock; from wherryd.stores.opening import open_store;"
        "open_store('file:///x', None, SystemClock());"
        "print([name for name in ('aiohttp', 'botocore', 'aiobotocore') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
