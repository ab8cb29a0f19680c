"""What a user changes of a version before saving it.

Owns: telling what was changed from what the store has, which may have changed as well. Does not own: saving
(``stored``), the attributes (``life``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from wherry import messages as pb
from wherry.errors import BadMetadata
from wherry.wire.canonical import Json, metadata_bytes, plain_metadata


class Seen(NamedTuple):
    """A version's attributes at one time."""

    description: str | None
    metadata: bytes | None  # None: what could not be logged either
    tags: tuple[str, ...]
    aliases: tuple[str, ...]


def seen(
    description: str | None,
    metadata: dict[str, Json],
    tags: Sequence[str],
    aliases: Sequence[str],
) -> Seen:
    """Keep attributes as they are now, whatever becomes of them."""
    try:
        ordered = dict(sorted(plain_metadata(metadata).items()))
        written = metadata_bytes(ordered)
    except BadMetadata:  # told when it is saved
        written = None
    return Seen(description, written, tuple(tags), tuple(aliases))


def changes(before: Seen, now: Seen) -> pb.EditVersionRequest | None:
    """Say what is another than before; None where nothing is.

    ``latest`` is no alias that could be taken away: a list without it says nothing.
    """
    request = pb.EditVersionRequest()
    if now.description != before.description:
        request.description.SetInParent()
        if now.description is not None:
            request.description.text = now.description
    if now.metadata is not None and now.metadata != before.metadata:
        request.metadata = now.metadata
    if now.tags != before.tags:
        request.tags.tags.extend(now.tags)
        request.tags.SetInParent()
    request.add_aliases.extend(each for each in now.aliases if each not in before.aliases)
    request.remove_aliases.extend(
        each for each in before.aliases if each not in now.aliases and each != "latest"
    )
    return request if request.ByteSize() else None


def merged(before: Sequence[str], now: Sequence[str], there: Sequence[str]) -> list[str]:
    """Do to a list in the store what the user did to it here."""
    kept = [each for each in there if each in now or each not in before]
    return list(dict.fromkeys([*kept, *(each for each in now if each not in before)]))


def merged_metadata(before: Seen, now: dict[str, Json], there: dict[str, Json]) -> dict[str, Json]:
    """Do to metadata in the store what the user did to it here, key by key."""
    seen = json.loads(before.metadata or b"{}")
    kept = {key: value for key, value in there.items() if key in now or key not in seen}
    changed = {key: value for key, value in now.items() if key not in seen or seen[key] != value}
    return kept | changed
