"""What this process logged last under each name, so that using it can wait for it. No I/O."""

from __future__ import annotations

from wherry.stored import Place
from wherry.ticket import Ticket

_last: dict[Place, Ticket] = {}


def note(place: Place, ticket: Ticket) -> None:
    """Remember a request; later ones of its lane replace it, since they commit after it."""
    _last[place] = ticket


def find(place: Place) -> Ticket | None:
    """Give the last request of a lane that this process, or the one it was forked from, has made."""
    return _last.get(place)
