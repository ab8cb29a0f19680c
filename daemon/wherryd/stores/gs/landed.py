"""What the server says of an object that it has just made.

Owns: that bytes which are not those meant do not stay. Does not own: the server's own check, which refuses
them: this is for servers that look at no checksum.
"""

from __future__ import annotations

from contextlib import suppress

from wherry.errors import StoreError
from wherryd.stores.base import OutcomeUnknown
from wherryd.stores.crc32c import written
from wherryd.stores.gs.answers import Answer, Call, created
from wherryd.stores.gs.sender import Sender


async def confirm(sender: Sender, call: Call, answer: Answer, digest: bytes) -> None:
    """Compare the CRC32C of what arrived with what was sent; remove what is not the same.

    Raises what ``problem`` makes of an answer that is not good, ``OutcomeUnknown`` where other bytes arrived.
    """
    there = created(call, answer)
    if there.crc32c in ("", written(digest)):
        return
    with suppress(StoreError):
        query = {"ifGenerationMatch": there.generation}
        await sender.send(Call(method="DELETE", key=call.key, query=query))
    raise OutcomeUnknown(f"{call.what}: other bytes arrived than were sent.")
