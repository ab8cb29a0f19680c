"""Credentials for stores, as clients hand them over: in memory only.

Owns: which sets there are for an address, and in which order they are tried (docs/promises.md,
promise 9). Does not own: what is in a set (``s3.identity``). No set is ever written, logged, or part of
an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class CredentialSet:
    """Parts of a client's environment that lead to credentials (``AWS_ACCESS_KEY_ID``, …).

    Args:
        values: names and values. None: the set stands for the daemon's own environment.
    """

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, str] | None) -> None:
        self.values = None if values is None else dict(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CredentialSet) and other.values == self.values

    def __hash__(self) -> int:
        return hash(frozenset((self.values or {}).items()))

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
        """Try this one first from now on."""
        ...


class StoreCredentials:
    """The sets for one store: the one that worked last, the newest, the daemon's own."""

    def __init__(self) -> None:
        self._worked: CredentialSet | None = None
        self._newest: CredentialSet | None = None

    def hand_over(self, values: Mapping[str, str]) -> bool:
        """Take a client's set; whether it is another than the newest."""
        new = CredentialSet(values)
        if not values or new == self._newest:
            return False
        self._newest = new
        return True

    def in_order(self) -> list[CredentialSet]:
        known = (self._worked, self._newest, OWN)
        return list(dict.fromkeys(known_set for known_set in known if known_set))

    def note_worked(self, worked: CredentialSet) -> None:
        self._worked = worked


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
