"""The bytes of a version's record, made once for each number that is tried; and of a draft's parts.

Owns: which of a request's fields stand where. Does not own: their format (``registry``).
"""

from __future__ import annotations

import msgspec

from wherryd.clock import rfc3339
from wherryd.commit.aliases import worth_giving
from wherryd.model import DraftPart, Sealed, VersionRecord
from wherryd.queue.base import Request
from wherryd.registry.records import encode


def make_record(request: Request, number: int) -> bytes:
    """Write the record of ``request`` as version ``number``.

    ``created`` is when the request got its place in line, so that the same request and number give
    the same bytes, and the versions' times ascend in the order of one home.
    """
    assert request.manifest and request.digest and request.content
    return encode(
        VersionRecord(
            format=1,
            version=number,
            request=request.id,
            type=request.type,
            description=request.description,
            metadata=msgspec.json.decode(request.metadata),
            entries=request.entries,
            size=request.size,
            manifest=request.manifest,
            digest=request.digest,
            content=request.content,
            run=request.run,
            inputs=request.inputs,
            aliases=worth_giving(request.aliases),
            created=rfc3339(request.accepted),
            client=request.client,
            tags=request.tags,
        )
    )


def make_draft_record(sealed: Sealed, number: int) -> bytes:
    """Write the record of a draft as version ``number``: the same bytes, whoever finishes it."""
    return encode(
        VersionRecord(
            format=1,
            version=number,
            request=sealed.draft,
            type=sealed.type,
            description=sealed.description,
            metadata=sealed.metadata,
            entries=sealed.entries,
            size=sealed.size,
            manifest=sealed.manifest,
            digest=sealed.digest,
            content=sealed.content,
            run=sealed.run,
            inputs=sealed.inputs,
            aliases=sealed.aliases,
            created=sealed.created,
            client=sealed.client,
            tags=sealed.tags,
        )
    )


def make_part(request: Request, home: str) -> bytes:
    """Write what an upsert puts into its draft.

    Args:
        home: the home's id.
    """
    assert request.manifest and request.digest and request.place is not None
    return encode(
        DraftPart(
            format=1,
            request=request.id,
            home=home,
            sequence=request.place,
            type=request.type,
            description=request.description,
            metadata=msgspec.json.decode(request.metadata),
            entries=request.entries,
            size=request.size,
            manifest=request.manifest,
            digest=request.digest,
            run=request.run,
            inputs=request.inputs,
            aliases=worth_giving(request.aliases),
            created=rfc3339(request.accepted),
            client=request.client,
            tags=request.tags,
        )
    )
