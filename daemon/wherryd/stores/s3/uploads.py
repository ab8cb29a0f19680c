"""Which uploads in parts a bucket has (Amazon S3 API Reference, "ListMultipartUploads").

Owns: asking for pages. Does not own: which of them are somebody's (``transfer.given_up``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from xml.etree import ElementTree as ET

from wherry.errors import StoreUnfit
from wherryd.stores.base import UploadStat
from wherryd.stores.s3.answers import Call, read_page
from wherryd.stores.s3.sender import Sender


async def list_uploads(sender: Sender, prefix: str) -> AsyncGenerator[UploadStat, None]:
    """The uploads of keys that start with ``prefix``."""
    root = sender.prefix
    query = {"uploads": "", "prefix": root + prefix}
    while True:
        call = Call(method="GET", key=None, query=query)
        answer = await sender.send(call)
        page = read_page(call, answer, "ListMultipartUploadsResult", "list of uploads")
        for element in page.iterfind("Upload"):
            stat = _stat(element, root)
            if stat.key.startswith(prefix):
                yield stat
        if page.findtext("IsTruncated") != "true":
            return
        following = {
            "key-marker": page.findtext("NextKeyMarker", ""),
            "upload-id-marker": page.findtext("NextUploadIdMarker", ""),
        }
        if following.items() <= query.items():
            raise StoreUnfit("The store lists only the first page of more uploads.")
        query |= following


def _stat(element: ET.Element, root: str) -> UploadStat:
    key = element.findtext("Key", "")
    try:
        begun = datetime.fromisoformat(element.findtext("Initiated", "")).timestamp()
    except ValueError as exc:
        raise StoreUnfit(f"The store lists an upload of {key!r} without its time: {exc}.") from exc
    return UploadStat(key.removeprefix(root), element.findtext("UploadId", ""), begun)
