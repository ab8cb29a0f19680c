"""What an alias becomes (docs/commit.md, rule 8).

Owns: the rules, as pure functions of the alias object that is there. Does not own: writing it
(``naming``, ``editing``), or when (after the request is settled in the queue).
"""

from __future__ import annotations

from wherryd.model import Alias

FORMAT = 1


def given_by_logging(there: Alias | None, alias: str, version: int, write: str) -> Alias | None:
    """The alias after a logged version gave itself this name; None: it stays as it is.

    Logging moves an alias only to a version above all that it ever was at, so that a late or
    repeated move changes nothing, and a user's move stays.
    """
    if there is not None and there.highest >= version:
        return None
    return Alias(format=FORMAT, alias=alias, version=version, highest=version, write=write)


def moved_by_user(
    there: Alias | None, alias: str, version: int | None, lane_highest: int, write: str
) -> Alias:
    """The alias after a user moved it to ``version``, or removed it (None).

    Args:
        there: the alias object as it was read.
        lane_highest: the highest number in the lane, listed after the user asked: no version that
            was there then takes the alias back.
        write: a fresh random id.

    Raises ``ValueError`` for an artifact without versions: it has nothing to be called by.
    """
    highest = max(lane_highest, there.highest if there is not None else -1, version or 0)
    if lane_highest < 0:
        raise ValueError(f"{alias!r}: the artifact has no version")
    return Alias(format=FORMAT, alias=alias, version=version, highest=highest, write=write)


def worth_giving(aliases: list[str]) -> list[str]:
    """Aliases without those that add nothing: ``latest``, empty ones, repetitions."""
    return [alias for alias in dict.fromkeys(aliases) if alias and alias != "latest"]
