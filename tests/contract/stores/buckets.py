"""What the tests of each kind of bucket ask alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import pytest
from hypothesis import strategies as st

from wherryd.stores.base import FileBody, ObjectExists, ObjectStore

SEGMENT = st.text(alphabet="ab0-. ~é", min_size=1, max_size=3).filter(lambda s: s.strip(".") != "")
KEY = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)

CHILD = """
import hashlib, sys, anyio
from wherryd.clock import SystemClock
from wherryd.stores.base import FileBody
from wherryd.stores.opening import open_store

async def main(address, verb, path):
    store = open_store(address, None, SystemClock())
    if verb == "conditional":
        await store.put_if_absent("key", b"bytes")
    elif verb == "put":
        await store.put("key", b"bytes")
    else:
        content = open(path, "rb").read()
        await store.put("key", FileBody(path, 0, len(content), hashlib.sha256(content).digest()))

anyio.run(main, *sys.argv[1:])
"""


async def every_verb(store: ObjectStore, etag: str) -> list[type[Exception] | None]:
    """What each verb raises; closes the store.

    Args:
        etag: of no object.
    """

    async def first(items: object) -> None:
        async for _ in items:  # type: ignore[attr-defined]
            break

    met: list[type[Exception] | None] = []
    for verb in (
        store.get("k"),
        first(store.list("")),
        store.put("k", b"x"),
        store.put_if_absent("k", b"x"),
        store.put_if_match("k", b"x", etag),
        store.delete("k"),
    ):
        try:
            await verb
            met.append(None)
        except Exception as exc:  # noqa: BLE001  # that is what is asked
            met.append(type(exc))
    await store.aclose()
    return met


async def check_kill(
    place: str,
    address: str,
    open_store: Callable[[], ObjectStore],
    file_body: Callable[..., FileBody],
    env: Mapping[str, str],
) -> None:
    """Kill a process at a failpoint of a bucket's: the object is whole or not there, and again is safe.

    Args:
        place: the failpoint: stores.<kind>.<verb>.<step>.
        open_store: opens the store at the address.
        env: credentials.
    """
    verb = place.split(".")[2]
    is_small = verb in ("conditional", "put")
    body = b"bytes" if is_small else file_body(os.urandom(1 << 16) * 260)
    path = body.path if isinstance(body, FileBody) else ""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, address, verb, path],
        env={**os.environ, **env, "WHERRY_FAILPOINT": place},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    store = open_store()
    size = body.size if isinstance(body, FileBody) else len(body)
    sent = place.endswith(("after-answer", "after-complete", "after-last"))
    assert [stat.size async for stat in store.list("")] == [size] * sent
    if isinstance(body, bytes) and verb == "conditional":
        with pytest.raises(ObjectExists) if sent else nullcontext():
            await store.put_if_absent("key", body)
    else:
        await store.put("key", body)
    assert (await store.head("key")).size == size
    await store.aclose()


async def check_pages(store: ObjectStore, keys: set[str], start: str) -> None:
    """Put objects and list them: one listing in order, from its beginning and from a key on."""
    for key in keys:
        await store.put(key, b"x")
    wanted = sorted(keys, key=str.encode)
    assert [stat.key async for stat in store.list("")] == wanted
    assert sorted([stat.key async for stat in store.scan("")], key=str.encode) == wanted
    after = [key for key in wanted if key.encode() > start.encode()]
    assert [stat.key async for stat in store.list("", start)] == after
