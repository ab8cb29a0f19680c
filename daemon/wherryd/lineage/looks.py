"""How long a look at a project counts.

Owns: the time after which a project that takes long to look at is looked at again. Does not own: looking
(``refresh``).

A listing is a request for every thousand records; on a server that keeps a folder for each run, a thousand
records take it a tenth of a second. A small project is looked at for each question.
"""

from __future__ import annotations

import msgspec

from wherryd.clock import Clock
from wherryd.registry.base import Since

#: Of fewer records, versions' and runs' together, a look counts for its own question only.
FEW = 2_000
#: Of more, for a second for each thousand, and no longer than this.
LONGEST_S = 60.0


class Began(msgspec.Struct, frozen=True):
    """When a look began, by both clocks."""

    now: float
    monotonic: float


class Look(msgspec.Struct, frozen=True):
    """A look at a project that went well."""

    began: Began
    records: int  # those that it saw
    since: Since  # what this daemon has put there, from when it began

    def counts(self, clock: Clock) -> bool:
        """Whether what it saw, and what this daemon has put since, may be told as what is there."""
        age_s = max(
            clock.monotonic() - self.began.monotonic,  # stands still while the machine sleeps
            abs(clock.now() - self.began.now),  # may be set back
        )
        return self.since.is_whole and age_s < lasts_s(self.records)


def begin(clock: Clock) -> Began:
    """Note the time before the first question."""
    return Began(clock.now(), clock.monotonic())


def lasts_s(records: int) -> float:
    """How long a look at so many records counts."""
    return 0.0 if records < FEW else min(LONGEST_S, records / 1_000)
