"""The file in which a draft's manifest is made.

Owns: worker threads, that the file is gone when nobody needs it. Does not own: its form
(``registry.manifest``), its lines (``gathering``).

A kill leaves the file, which the next try replaces, and which goes with its request at the latest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from wherry.errors import BadPath
from wherryd.model import Manifest, ManifestEntry
from wherryd.registry.manifest import ManifestWriter
from wherryd.registry.manifest_body import manifest_body
from wherryd.stores.base import FileBody

T = TypeVar("T")


class ManifestFile:
    """Implements ``gathering.Writer``.

    Args:
        folder: of manifests' files; made where it is not there.
        row: the request's.
    """

    def __init__(self, folder: str, row: int) -> None:
        self._path = os.path.join(folder, f"{row}.draft.zst")
        self._writer: ManifestWriter | None = None

    async def __aenter__(self) -> Self:
        self._writer = await anyio.to_thread.run_sync(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._discard)

    async def add(self, lines: Sequence[ManifestEntry]) -> None:
        await _in_thread(partial(self._add, lines))

    async def finish(self) -> tuple[Manifest, FileBody]:
        return await _in_thread(self._finish)

    def _open(self) -> ManifestWriter:
        os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
        return ManifestWriter(self._path)

    def _discard(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _add(self, lines: Sequence[ManifestEntry]) -> None:
        assert self._writer is not None
        for line in lines:
            self._writer.add_line(line)

    def _finish(self) -> tuple[Manifest, FileBody]:
        assert self._writer is not None
        manifest = self._writer.finish()
        return manifest, manifest_body(self._path, manifest.manifest)


async def _in_thread(call: Callable[[], T]) -> T:
    """Call it in a worker thread; what can't stand in a manifest is the parts' fault."""
    try:
        return await anyio.to_thread.run_sync(call)
    except ValueError as exc:
        if isinstance(exc, BadPath):
            raise
        raise BadPath(str(exc)) from exc
