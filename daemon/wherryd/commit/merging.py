"""What the parts of a draft come to, path by path (docs/drafts.md, "What users can rely on").

Owns: the rules, as pure functions of the parts. Does not own: reading them (``gathering``), what follows
from a conflict (``drafts``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wherryd.model import DraftPart, ManifestEntry

#: Conflicts that are told; all of them are counted.
TOLD = 3


class Claim(msgspec.Struct, frozen=True):
    """What one part has at a path."""

    part: DraftPart | None  # None: the finisher's own
    line: ManifestEntry


class Conflict(msgspec.Struct, frozen=True):
    """Two parts have other bytes at a path, and nothing says which of them counts."""

    path: str
    one: DraftPart
    other: DraftPart

    def __str__(self) -> str:
        return f"{self.path!r} differs between {name_of(self.one)} and {name_of(self.other)}"


class Chosen(msgspec.Struct, frozen=True):
    """What the version has at a path."""

    line: ManifestEntry
    is_replaced: bool = False  # another run's part had other bytes there


def name_of(part: DraftPart) -> str:
    """Name a part for people: its run, and the upsert."""
    return f"run {part.run.id} (upsert {part.request})"


def in_order(parts: Sequence[DraftPart]) -> list[DraftPart]:
    """Sort parts as their metadata counts, the last word last: by the writers' clocks and request ids."""
    return sorted(parts, key=_age)


def choose(claims: Sequence[Claim], *, newest: bool) -> Chosen | Conflict:
    """Choose what a version has at a path: the finisher's, else a run's last word, if all runs agree.

    Args:
        claims: all parts that have the path, one each.
        newest: where runs do not agree, the later part counts.
    """
    own = [claim.line for claim in claims if claim.part is None]
    last = _last_of_runs(claims)
    if own:
        return Chosen(own[0], any(not is_same(own[0], claim.line) for claim in last))
    first, *others = last
    other = next((each for each in others if not is_same(each.line, first.line)), None)
    if other is None:
        return Chosen(first.line)
    if newest:
        return Chosen(max(last, key=_age_of_claim).line, is_replaced=True)
    assert first.part is not None and other.part is not None
    return Conflict(path=first.line.path, one=first.part, other=other.part)


def is_same(one: ManifestEntry, other: ManifestEntry) -> bool:
    """Whether two lines have the same content, wherever their bytes lie and whenever they were looked at."""
    return _content(one) == _content(other)


def _content(line: ManifestEntry) -> tuple[object, ...]:
    return line.path, line.digest, line.size, line.ref, line.version


def _last_of_runs(claims: Sequence[Claim]) -> list[Claim]:
    """Of each run what it said last, in the order of their ages."""
    by_run: dict[str, Claim] = {}
    for claim in claims:
        part = claim.part
        if part is None:
            continue
        there = by_run.get(part.run.id)
        if there is None or there.part is None or _turn(part) > _turn(there.part):
            by_run[part.run.id] = claim
    return sorted(by_run.values(), key=_age_of_claim)


def _turn(part: DraftPart) -> tuple[int, str, str]:
    return part.sequence, part.home, part.request


def _age(part: DraftPart) -> tuple[str, str]:
    return part.created, part.request


def _age_of_claim(claim: Claim) -> tuple[str, str]:
    assert claim.part is not None
    return _age(claim.part)


class Trees:
    """Whether a path lies below another that is a file; paths come by their UTF-8 bytes.

    Only the last file with which the path begins need be looked at: what that one lies below was found when
    it came, and what else is shorter goes on in it as in the path.
    """

    def __init__(self) -> None:
        self._begun: list[
            tuple[str, str | None]
        ] = []  # each begins with the one before; what it lies below

    def file_above(self, path: str) -> str | None:
        """As ``above``; the path is a file itself."""
        found = self.above(path)
        self._begun.append((path, found))
        return found

    def above(self, path: str) -> str | None:
        """The file below which this path would lie; None where there is none."""
        while self._begun and not path.startswith(self._begun[-1][0]):
            self._begun.pop()
        if not self._begun:
            return None
        last, above = self._begun[-1]
        return last if path.startswith("/", len(last)) else above


def merged_metadata(parts: Sequence[DraftPart], own: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of all parts, key by key, the finisher's last.

    Args:
        parts: in order.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        merged.update(part.metadata)
    return {**merged, **own}


def merged_description(parts: Sequence[DraftPart], own: str | None) -> str | None:
    """The finisher's description, else the last that a part has.

    Args:
        parts: in order.
    """
    said = [part.description for part in parts if part.description is not None]
    if own is not None:
        return own
    return said[-1] if said else None


def union(lists: Sequence[Sequence[str]]) -> list[str]:
    """All words, each once, in their order."""
    return list(dict.fromkeys(word for words in lists for word in words))
