"""What is said of a store that is not the one which is known at its address.

Owns: the words. Does not own: when it is asked (``transfer``, ``commit``), what follows (the lane stops).
"""

from __future__ import annotations

from wherry.errors import StoreChanged, StoreError, StoreMissing
from wherryd.registry.base import Identity


class Exchanged(StoreChanged):
    """At an address lies another store than the one that is ``known``, or none."""

    def __init__(self, address: str, there: Identity | None, known: str) -> None:
        what = f"the store {there.store}" if there else "no store"
        super().__init__(
            f"at {address} is {what}, not {known}",
            hint="Look whether the right disk or bucket is there. If this one is to count, `wherry status` names the"
            " `wherry retry` for it.",
        )
        self.known = known


def of_known(error: StoreError) -> StoreError:
    """Say of a known store that is not there what helps: a new one in its place would not be that store."""
    if not isinstance(error, StoreMissing):
        return error
    hint = "It was there before: mount it, or put it back, with all that it held."
    return StoreMissing(error.message, hint=hint)
