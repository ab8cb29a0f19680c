"""A big file's upload, in steps, to whatever server takes it so.

Owns: whose ledger it is, and what becomes of it when it fails. Does not own: the steps (``s3.multipart``,
``gs.resumable``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio

from wherry.errors import StoreError, StoreUnavailable
from wherryd.model import Upload
from wherryd.stores.base import FileBody, Ledger, StepsFailed
from wherryd.stores.parts import Forgetful
from wherryd.stores.retry import Retry

_ABORT_S = 5


class UploadOver(Exception):
    """The server has given the upload up, or parts of it: no step of it can succeed any more."""


class Stepwise(ABC):
    """One upload.

    Args:
        retry: repeats what meets a short fault.
        key: what it will be.
        body: the file.
    """

    def __init__(self, retry: Retry, key: str, body: FileBody) -> None:
        self._retry = retry
        self._key = key
        self._body = body
        self._lasts = body.ledger is not None
        self._ledger: Ledger = body.ledger or Forgetful()
        self._upload = Upload(0, "", 0, {})

    @abstractmethod
    async def _give_up(self) -> None:
        """Have the server forget it."""

    @asynccontextmanager
    async def _left_if_it_fails(self) -> AsyncGenerator[None, None]:
        """Leave the upload where a step fails; ``UploadOver`` passes. Raises ``StepsFailed``."""
        try:
            yield
        except UploadOver:
            raise
        except StoreUnavailable as exc:
            await self._leave()
            failed = StepsFailed(exc.message, hint=exc.hint)
            failed.retry_after_s = exc.retry_after_s
            raise failed from exc
        except BaseException:
            await self._leave()
            raise

    async def _leave(self) -> None:
        """Without a ledger nobody can go on: give back what was sent, in a few tries."""
        if not self._lasts:
            with anyio.move_on_after(_ABORT_S, shield=True), suppress(StoreError):
                await self._give_up()
