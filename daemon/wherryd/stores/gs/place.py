"""Where a bucket's objects are, and who pays for looking.

Owns: URLs of Cloud Storage's JSON API; names are percent-encoded here, once. Does not own: the address's form
(``wherry.wire.address``), what is asked there.

At an address with ``endpoint_url`` there is an emulator: it gets no credentials. Which project pays for a
bucket of which the requester pays stands beside the credentials, as GDAL's users write it:
``GS_USER_PROJECT``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import msgspec

from wherry.wire.address import StoreAddress
from wherryd.stores.credentials import CredentialSet

GOOGLE = "https://storage.googleapis.com"
_PAYER = "GS_USER_PROJECT"


class Place(msgspec.Struct, frozen=True):
    """A bucket on a server."""

    server: str  # URL, without a slash at its end
    bucket: str
    is_emulated: bool

    def objects(self, name: str | None, query: Mapping[str, str]) -> str:
        """The URL of an object, or of all of them for None."""
        path = "" if name is None else f"/{quote(name, safe='')}"
        return f"{self.server}/storage/v1/{self._bucket}/o{path}{_written(query)}"

    def uploads(self, query: Mapping[str, str]) -> str:
        """The URL to which new objects go."""
        return f"{self.server}/upload/storage/v1/{self._bucket}/o{_written(query)}"

    def session(self, path: str) -> str:
        """The URL of an upload's session. Bytes go to the server that was asked, and to no other."""
        parts = urlsplit(self.server)
        return f"{parts.scheme}://{parts.netloc}{path}"

    @property
    def _bucket(self) -> str:
        return f"b/{quote(self.bucket, safe='')}"


def place_of(address: StoreAddress) -> Place:
    """The place of a bucket, with the option ``endpoint_url`` or without."""
    endpoint = address.options.get("endpoint_url", "")
    return Place(endpoint or GOOGLE, address.bucket, is_emulated=bool(endpoint))


def session_path(location: str) -> str:
    """What is kept of a session's URI: path and query, which are all the server needs."""
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}"


def paid_by(credentials: CredentialSet) -> dict[str, str]:
    """Which project pays (Cloud Storage, "Requester Pays"), as a query; nobody who is unknown can."""
    values = os.environ if credentials.values is None else credentials.values
    payer = values.get(_PAYER, "")
    return {"userProject": payer} if payer else {}


def _written(query: Mapping[str, str]) -> str:
    pairs = "&".join(f"{name}={quote(text, safe=',()')}" for name, text in query.items())
    return pairs and f"?{pairs}"
