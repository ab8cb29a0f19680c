"""What a run tells of itself: what it is, what it uses, that it has ended.

Owns: when that is told, and that a run which did nothing is told nowhere. Does not own: what becomes of it
(the daemon writes it into the store).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wherry import messages as pb
from wherry.connection import connect
from wherry.errors import BadMetadata, WaitTimeoutError, WherryError
from wherry.notices import say, warn_once
from wherry.wire import VERSION
from wherry.wire.canonical import MAX_METADATA_BYTES, Json, metadata_bytes, plain_metadata
from wherry.wire.secrets import masked

_LONGEST_TEXT = 1000
#: The least that an answer may take.
_ANSWER_S = 2.0


class RunNotes:
    """Of one run, in one process.

    Args:
        home: whose daemon is told.
        store: into which it writes.
        run: gives it as records have it.
        notes: the user's.
        tags: likewise.
        config: likewise, as it is when it is told.
        is_offline: hold all until ``wherry sync``.
    """

    def __init__(
        self,
        home: Path,
        store: str,
        run: Callable[[], pb.Run],
        notes: str | None,
        tags: tuple[str, ...],
        config: Mapping[str, Any],
        *,
        is_offline: bool,
    ) -> None:
        self._home = home
        self._store = store
        self._run = run
        self._notes = notes
        self._tags = tags
        self._config = config
        self._is_offline = is_offline
        self._started = _now()
        self.is_known = False
        """Whether the daemon knows what the run is."""

    def logged(self, found: str = "") -> None:
        """The run has logged something: tell what it is, once. The log stands, whatever happens to this.

        Args:
            found: "project/name:v3", of what was a version already: then its record names another run.
        """
        if self.is_known and not found:
            return
        facts = None if self.is_known else self._facts()
        try:
            self._tell(pb.NoteRunRequest(facts=facts, logged=[found] if found else []))
        except WherryError as error:
            say(f"what run {self._run().id} has logged could not be noted: {error}")

    def uses(self, name: str) -> None:
        """The run uses a version, ``project/name:v3``. Raises ``CommError``, ``QueueError``."""
        facts = None if self.is_known else self._facts()
        self._tell(pb.NoteRunRequest(facts=facts, used=[name]))

    def ended(self, exit_code: int | None) -> pb.NoteRunRequest:
        """Make what tells that the run has ended."""
        facts = self._facts()
        facts.ended = _now()
        if exit_code is not None:
            facts.exit_code = exit_code
        return self._filled(pb.NoteRunRequest(facts=facts))

    def _tell(self, request: pb.NoteRunRequest) -> None:
        connect(self._home).unary("NoteRun", self._filled(request), pb.NoteRunReply)
        self.is_known = True

    def _filled(self, request: pb.NoteRunRequest) -> pb.NoteRunRequest:
        request.store = self._store
        request.run.CopyFrom(self._run())
        request.offline = self._is_offline
        return request

    def _facts(self) -> pb.RunFacts:
        return pb.RunFacts(
            started=self._started,
            notes=self._notes,
            tags=self._tags,
            config=_config_bytes(self._config),
            client=f"wherry {VERSION}",
        )


def record_end(home: Path, request: pb.NoteRunRequest, timeout_s: float) -> bool:
    """Tell that a run has ended, and wait until all that is noted of it is in the store.

    Args:
        timeout_s: 0 waits for nothing.

    Returns:
        Whether it is there. Where not, the daemon goes on.

    Raises:
        CommError, QueueError: it could not be told.
    """
    end_s = time.monotonic() + timeout_s
    request.wait = timeout_s > 0
    while True:
        left_s = max(end_s - time.monotonic(), _ANSWER_S)
        try:
            reply = connect(home).unary("NoteRun", request, pb.NoteRunReply, timeout_s=left_s)
        except WaitTimeoutError:
            return False
        if reply.recorded or time.monotonic() >= end_s:
            return reply.recorded


def _config_bytes(config: Mapping[str, Any]) -> bytes:
    """Write a config as JSON; what is none becomes its text, since it must be in nobody's way."""
    items = list(config.items())  # another thread may change it
    plain = metadata_bytes({_text(key): _plain(value) for key, value in items})
    if len(plain) > MAX_METADATA_BYTES:
        warn_once(f"wherry: a config of {len(plain):,} bytes is not recorded; 1 MiB is the most.")
        return b"{}"
    return plain


def _plain(value: object) -> Json:
    try:
        return _without_passwords(plain_metadata({"value": value})["value"])
    except BadMetadata:
        return _text(value)
    except Exception:  # noqa: BLE001 (an object's own code: a deleted array, say)
        return f"<{type(value).__name__}>"


def _text(value: object) -> str:
    try:
        text = (value if isinstance(value, str) else repr(value))[:_LONGEST_TEXT]
    except Exception:  # noqa: BLE001 (an object's own code)
        text = f"<{type(value).__name__}>"
    return masked(text.encode("utf-8", "replace").decode())


def _without_passwords(value: Json) -> Json:
    """The same, with ``***`` for what is secret in URIs."""
    if isinstance(value, str):
        return masked(value) if "://" in value else value
    if isinstance(value, list):
        return [_without_passwords(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_passwords(each) for key, each in value.items()}
    return value


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
