"""Host, path and region of a bucket.

Owns: URLs; keys are percent-encoded here, once. Does not own: the address's form (``wherry.wire.address``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlsplit

import msgspec
from anyio import to_thread
from botocore import UNSIGNED
from botocore.config import Config
from botocore.session import Session

from wherry.wire.address import StoreAddress
from wherryd.stores.credentials import CredentialSource
from wherryd.stores.s3.identity import surroundings

_DEFAULT_REGION = "us-east-1"


class Place(msgspec.Struct, frozen=True):
    """Where a bucket is."""

    address: StoreAddress
    endpoint_url: str | None  # None: on AWS, where the host follows from the region
    region: str
    guessed: bool  # nobody named the region: the server may
    base: str  # URL of the bucket, without a slash at its end

    @property
    def prefix(self) -> str:
        """What every key of the bucket begins with here: nothing, or a prefix and a slash."""
        return self.address.path and f"{self.address.path}/"

    def url(self, key: str | None, query: Mapping[str, str] | None = None) -> str:
        """The URL of an object, or of the bucket for None."""
        path = "" if key is None else quote(self.prefix + key, safe="/")
        pairs = "&".join(f"{_encode(name)}={_encode(text)}" for name, text in (query or {}).items())
        return f"{self.base}/{path}{pairs and '?' + pairs}"


async def find_place(address: StoreAddress, credentials: CredentialSource) -> Place:
    """Complete what the address says from the users' AWS configuration.

    Args:
        address: with the options ``region``, ``endpoint_url`` and ``addressing``, or without.
        credentials: sets whose profiles are looked at, in their order.
    """
    region = address.options.get("region")
    endpoint = address.options.get("endpoint_url")
    for credential_set in credentials.in_order():
        if region and endpoint:
            break
        found = await surroundings(credential_set)
        region, endpoint = region or found.region, endpoint or found.endpoint_url
    return await to_thread.run_sync(
        _place, address, endpoint, region or _DEFAULT_REGION, not region
    )


async def move(place: Place, region: str) -> Place:
    """The same bucket in the region that the server named."""
    return await to_thread.run_sync(_place, place.address, place.endpoint_url, region, False)


def _place(address: StoreAddress, endpoint: str | None, region: str, guessed: bool) -> Place:
    parts = urlsplit(endpoint or _aws_endpoint(region))
    host, path, bucket = parts.netloc, parts.path.rstrip("/"), address.bucket
    if _is_virtual(address, endpoint):
        host = f"{bucket}.{host}"
    else:
        path = f"{path}/{quote(bucket)}"
    return Place(
        address=address,
        endpoint_url=endpoint,
        region=region,
        guessed=guessed,
        base=f"{parts.scheme}://{host}{path}",
    )


def _is_virtual(address: StoreAddress, endpoint: str | None) -> bool:
    """Whether the bucket is part of the host's name: on AWS, or where the address says so.

    A bucket with a dot in its name would not match the certificate for ``*.s3.….amazonaws.com``.
    """
    on_aws = endpoint is None and "." not in address.bucket
    return address.options.get("addressing", "virtual" if on_aws else "path") == "virtual"


@cache
def _aws_endpoint(region: str) -> str:
    """The host that botocore's rules name; it differs between AWS's partitions. Takes 0.2 s."""
    plain = Config(
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # not in the stubs
        s3={"us_east_1_regional_endpoint": "regional"},
        signature_version=UNSIGNED,
    )
    return Session().create_client("s3", region_name=region, config=plain).meta.endpoint_url


def _encode(text: str) -> str:
    return quote(text, safe="")
