"""How full the spool is, in JSON and in words. No I/O. Does not own: where it is found out (the daemon)."""

from __future__ import annotations

import math

from wherry import messages as pb
from wherry.cli import states
from wherry.cli.words import count_text, span_text
from wherry.progress import size_text


def spool_json(found: pb.StatusReply) -> dict[str, object] | None:
    """Give the keys that ``--json`` shows of the spool; they stay as they are."""
    if not found.HasField("spool"):
        return None
    spool = _as_it_moves(found)
    return {
        "bytes": spool.bytes,
        "files": spool.files,
        "quota_bytes": _limit(spool.quota_bytes),
        "quota_files": _limit(spool.quota_files),
        "unlogged_bytes": spool.unlogged_bytes,
        "unlogged_files": spool.unlogged_files,
        "resting_bytes": spool.resting_bytes,
        "resting_files": spool.resting_files,
        "sent_bytes": spool.sent_bytes,
        "bytes_per_s": spool.bytes_per_s,
        "seconds_left": seconds_left(spool),
        "waiting": spool.waiting,
    }


def spool_sentences(found: pb.StatusReply) -> list[str]:
    """Say how full the spool is, and how long until it is empty; nothing where it is."""
    spool = _as_it_moves(found)
    if not (spool.bytes or spool.files or spool.waiting):
        return []
    told = [f"The spool holds {_amount(spool)}. {_until_empty(spool)}"]
    if spool.unlogged_bytes:
        told.append(f"Of that, {size_text(spool.unlogged_bytes)} are captured and not logged yet.")
    if spool.resting_bytes:
        told.append(
            f"Of that, {size_text(spool.resting_bytes)} are of requests that wait for you:"
            " held by offline mode (`wherry sync`) or failed (`wherry retry`, `wherry acknowledge`)."
        )
    if spool.waiting:
        who = count_text(spool.waiting, "program waits", "programs wait")
        told.append(
            f"{who} for room in it. A larger spool_quota_bytes or spool_quota_inodes in config.toml"
            " counts within seconds."
        )
    return told


def seconds_left(spool: pb.SpoolState) -> float | None:
    """Say how long until all that can be sent is sent; None where nothing moves."""
    left = max(0, going_bytes(spool) - spool.sent_bytes)
    if not left:
        return 0.0
    return left / spool.bytes_per_s if spool.bytes_per_s > 0 else None


def going_bytes(spool: pb.SpoolState) -> int:
    """Count the bytes of logged requests that go without the user."""
    return max(0, spool.bytes - spool.unlogged_bytes - spool.resting_bytes)


def _as_it_moves(found: pb.StatusReply) -> pb.SpoolState:
    """Give the spool, at no speed where all work waits: what was sent lately says nothing."""
    work = [state for state in found.requests if state.state in states.WORK]
    if not work or states.not_shown(found) or not all(map(states.is_waiting, work)):
        return found.spool
    still = pb.SpoolState()
    still.CopyFrom(found.spool)
    still.bytes_per_s = 0.0
    return still


def _amount(spool: pb.SpoolState) -> str:
    of_bytes = "" if spool.quota_bytes < 0 else f" of {size_text(spool.quota_bytes)}"
    of_files = "" if spool.quota_files < 0 else f" of {spool.quota_files:,}"
    return f"{size_text(spool.bytes)}{of_bytes}, in {spool.files:,}{of_files} files"


def _until_empty(spool: pb.SpoolState) -> str:
    left_s = seconds_left(spool)
    if not going_bytes(spool):
        return "Nothing of it is on its way."
    if left_s is None:
        return "Nothing leaves it at present, so nobody can say when it is empty."
    speed = f"{size_text(math.ceil(spool.bytes_per_s))}/s"
    return f"At {speed} what can be sent is gone in about {span_text(left_s)}."


def _limit(number: int) -> int | None:
    return None if number < 0 else number
