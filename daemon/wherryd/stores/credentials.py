"""Credentials for stores, as clients hand them over: in memory only.

Owns: which sets there are for an address, in which order they are tried (docs/promises.md, promise 9), and
which are news. Does not own: what is in a set (``s3.identity``,
``gs.identity``). No set is ever written, logged, or part of
an error.

One store may be used with several sets, as one for each project: so the last few are kept, and a short
program with keys of its own takes nothing from another that still runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

_KEPT = 4


class CredentialSet:
    """Parts of a client's environment that lead to credentials (``AWS_ACCESS_KEY_ID``, …).

    Args:
        values: names and values. None: the set stands for the daemon's own environment.
    """

    __slots__ = ("_hash", "values")

    def __init__(self, values: Mapping[str, str] | None) -> None:
        self.values = None if values is None else dict(values)
        self._hash = hash(frozenset((self.values or {}).items()))  # asked for by each request

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CredentialSet) and other.values == self.values

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<credentials: {self}>"

    def __str__(self) -> str:
        """What it is, without a secret; stands in errors."""
        if self.values is None:
            return "the daemon's own credentials"
        if not self.values:
            return "no credentials"
        if "AWS_ACCESS_KEY_ID" in self.values:
            return f"the key {self.values['AWS_ACCESS_KEY_ID'][:4]}… of a client"
        if profile := self.values.get("AWS_PROFILE") or self.values.get("AWS_DEFAULT_PROFILE"):
            return f"the profile {profile!r} of a client"
        if file := self.values.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return f"{file} of a client"
        return "the credentials of a client"


OWN = CredentialSet(None)
"""The daemon's own chain: its environment, its files, the machine's role."""


ANONYMOUS = CredentialSet({})
"""No credentials at all: requests are not signed."""


class CredentialSource(Protocol):
    """The sets for one store."""

    def in_order(self) -> list[CredentialSet]:
        """Which to try, best first. Never empty."""
        ...

    def note_worked(self, worked: CredentialSet) -> None:
        """The store found its signature good: try this one first from now on."""
        ...

    def note_refused(self, refused: CredentialSet) -> None:
        """The store refused it: handed over anew, it is worth another try."""
        ...


class StoreCredentials:
    """The sets for one store: the one that worked last, the last few from clients, the daemon's own."""

    def __init__(self) -> None:
        self._worked: CredentialSet | None = None
        self._handed: list[CredentialSet] = []  # newest first
        self._refused: set[CredentialSet] = set()  # since they were news last

    def hand_over(self, values: Mapping[str, str]) -> bool:
        """Take a client's set; whether it is news.

        One that is known is news if it was refused: its profile's file may have been mended. It is then
        another object than before, so that nobody takes what was found with the old one for its.
        """
        new = CredentialSet(values)
        if not values:
            return False
        known = next((each for each in self._known() if each == new), None)
        is_news = known is None or new in self._refused
        if known is not None and not is_news:
            new = known
        if self._worked == new:
            self._worked = new
        self._handed = [new, *(each for each in self._handed if each != new)][:_KEPT]
        self._refused.discard(new)
        self._refused.intersection_update(self._known())
        return is_news

    def in_order(self) -> list[CredentialSet]:
        return list(dict.fromkeys([*self._known(), OWN]))

    def note_worked(self, worked: CredentialSet) -> None:
        self._worked = worked

    def note_refused(self, refused: CredentialSet) -> None:
        self._refused.add(refused)

    def _known(self) -> list[CredentialSet]:
        return [self._worked, *self._handed] if self._worked else self._handed


class OrAnonymous:
    """The sets for one store, and none at last: a bucket may be open to everybody.

    Args:
        source: of the sets.
    """

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._is_open = False

    def in_order(self) -> list[CredentialSet]:
        known = self._source.in_order()
        return [ANONYMOUS, *known] if self._is_open else [*known, ANONYMOUS]

    def note_worked(self, worked: CredentialSet) -> None:
        self._is_open = worked == ANONYMOUS
        if not self._is_open:
            self._source.note_worked(worked)

    def note_refused(self, refused: CredentialSet) -> None:
        if refused != ANONYMOUS:
            self._source.note_refused(refused)


class CredentialSets:
    """The sets for all stores, by the stores' normalized addresses."""

    def __init__(self) -> None:
        self._stores: dict[str, StoreCredentials] = {}

    def hand_over(self, address: str, values: Mapping[str, str]) -> bool:
        """Take what a client's Hello brought for a store.

        Returns:
            whether it is news: requests that wait with ``AccessRefused`` are worth another try.
        """
        return self.source(address).hand_over(values)

    def source(self, address: str) -> StoreCredentials:
        """The sets for one store; later ones come into it too."""
        return self._stores.setdefault(address, StoreCredentials())
