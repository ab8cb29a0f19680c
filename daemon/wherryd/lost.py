"""What is said of requests whose bytes their store had, and lost. No I/O.

Owns: the words, in the row of a request that is sent back, and in the error of one that can't be had again.
Does not own: finding out (``commit.looking``), sending again (``prepare``, ``transfer``).
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.errors import StoreDamaged, WherryError
from wherryd.queue.base import Request

#: In the row of a request that is sent back.
LOST = StoreDamaged.__name__


def why_back(keys: Sequence[str], count: int) -> str:
    """Say what the store has lost.

    Args:
        keys: some of the objects.
        count: how many there are in all.
    """
    more = f" and {count - len(keys)} more" if count > len(keys) else ""
    return f"gone from the store: {', '.join(keys)}{more}"


def of_lost(error: WherryError, request: Request) -> WherryError:
    """Say of a file that can't be sent what helps, where the store had its bytes.

    Args:
        error: why it can't.
        request: as its row was when the try began.
    """
    if request.error != LOST:
        return error
    return type(error)(
        f"{error.message}; and it has to be sent again: {request.reason}",
        hint="Put back what the store has lost, then: wherry retry --all. Or log what the file is now.",
    )
