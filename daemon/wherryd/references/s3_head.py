"""Asking an S3 server about one object.

Owns: a HEAD, a GET where HEAD does not say why, what their answers say. Does not own: which object
(``s3_bucket``), which checksums count (``sums``), credentials, regions and signatures (``stores.s3.sender``).

Checksums beside the ETag come with a HEAD that asks for them. Of an object that a KMS key encrypts they take
the right to use that key (``kms:Decrypt``), which a plain HEAD does not (Amazon S3 API Reference,
"HeadObject"), and some servers take no such question: what is refused is asked without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from wherry.errors import AccessRefused
from wherryd.references.answers import size_of
from wherryd.references.s3_pages import Item, digest_of, version_of
from wherryd.references.s3_refusals import Asked
from wherryd.references.sums import sums_of
from wherryd.stores.s3.answers import Answer, Call
from wherryd.stores.s3.sender import Sender

_FIRST_BYTE = {"Range": "bytes=0-0"}
_WITH_SUMS = {"x-amz-checksum-mode": "ENABLED"}


async def head(sender: Sender, call: Call, *, with_sums: bool) -> Answer:
    """Send a HEAD, whose refusals have no code; a GET tells it where it matters, or answers.

    Args:
        with_sums: ask for checksums beside the ETag as well.

    Raises as ``Sender.send``.
    """
    answer = await _try(sender, call, _WITH_SUMS) if with_sums else None
    if answer is None or answer.status in (400, 501):
        answer = await _try(sender, call, {})
    if answer is not None:
        if answer.status == 404 and not call.query:
            return msgspec.structs.replace(answer, code="NoSuchKey")
        if answer.status not in (400, 404, 405):
            return answer
    headers = {**call.headers, **_FIRST_BYTE}
    return await sender.send(
        msgspec.structs.replace(call, method="GET", headers=headers, streamed=True)
    )


async def _try(sender: Sender, call: Call, more: Mapping[str, str]) -> Answer | None:
    """Send with more headers; None where no credentials would do."""
    headers = {**call.headers, **more}
    try:
        return await sender.send(msgspec.structs.replace(call, headers=headers))
    except AccessRefused:
        return None


def item_of(key: str, answer: Answer, asked: Asked) -> Item:
    """What a good answer says. Raises ``ReferenceUnavailable`` where that is nothing."""
    digest, size = digest_of(answer.headers.get("ETag", "")), size_of(answer.headers)
    if digest is None or size is None:
        raise asked.is_no_server("it gives an object without ETag and size")
    version = version_of(answer.headers.get("x-amz-version-id"))
    is_whole = answer.status == 200  # a part's checksum may be its own
    return Item(key, digest, size, version, sums_of(answer.headers) if is_whole else ())
