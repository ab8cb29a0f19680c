"""Host, path and region of a bucket.

Owns: URLs; keys are percent-encoded here, once. Does not own: the address's form (``wherry.wire.address``),
how long a place is kept (``ways``).

What the address leaves open, the profile says by whose keys a request is signed: keys go nowhere but where
their owner's configuration leads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

import msgspec
from anyio import to_thread
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from wherry.errors import BadURI
from wherry.wire.address import StoreAddress, normalize_endpoint
from wherryd.stores.credentials import CredentialSet
from wherryd.stores.s3.identity import Surroundings, surroundings
from wherryd.stores.s3.traits import Traits, is_akin, region_in, traits_of

#: Of a host that a redirect names: nothing in it that one library could read otherwise than another.
_HOST = re.compile(r"[a-z0-9._-]+")


class NoPlace(Exception):
    """What an address and a profile say leads nowhere; says why."""


class Place(msgspec.Struct, frozen=True):
    """Where a bucket is."""

    address: StoreAddress
    said: Surroundings  # by the address, and where it is silent by a profile
    region: str
    endpoint: str  # URL of the server
    base: str  # URL of the bucket, without a slash at its end
    traits: Traits  # of its server

    def url(self, key: str | None, query: Mapping[str, str] | None = None) -> str:
        """The URL of an object, or of the bucket for None."""
        path = "" if key is None else quote(prefix_of(self.address) + key, safe="/")
        pairs = "&".join(f"{_encode(name)}={_encode(text)}" for name, text in (query or {}).items())
        return f"{self.base}/{path}{pairs and '?' + pairs}"


def prefix_of(address: StoreAddress) -> str:
    """What every key below an address begins with: nothing, or a prefix and a slash."""
    return address.path and f"{address.path}/"


async def find_place(address: StoreAddress, credentials: CredentialSet) -> Place:
    """Complete what the address says from a user's AWS configuration.

    Args:
        address: with the options ``region``, ``endpoint_url`` and ``addressing``, or without.
        credentials: the set whose profile is looked at.

    Raises:
        NoPlace: of the address or the profile.
    """
    options, profile = address.options, await surroundings(credentials)
    said = Surroundings(
        region=options.get("region") or profile.region,
        endpoint_url=options.get("endpoint_url") or profile.endpoint_url,
        addressing=options.get("addressing") or profile.addressing,
    )
    region = said.region or traits_of(said.endpoint_url or "").region
    return await to_thread.run_sync(_place, address, said, region)


async def move(place: Place, region: str) -> Place:
    """The same bucket in the region that the server named. Raises ``NoPlace``."""
    return await to_thread.run_sync(_place, place.address, place.said, region)


def follow(place: Place, server: str) -> Place | None:
    """The same bucket on the server that a redirect names; None where keys are better not shown to that one.

    A signature tells no secret, but a session's token goes with it. So the server has to be akin to the one
    that was asked; the scheme stays, whatever the redirect says (S3's name http).

    Args:
        server: ``scheme://host:port`` or ``//host:port``.
    """
    asked, named = urlsplit(place.endpoint), urlsplit(server)
    host, in_host = named.hostname or "", f"{place.address.bucket}."
    if not _HOST.fullmatch(host) or _port_in(named.netloc) != _port_in(asked.netloc):
        return None
    if not is_akin(asked.hostname or "", host.removeprefix(in_host)):
        return None
    base = f"{asked.scheme}://{host}{_port_in(asked.netloc)}{asked.path}"
    if not host.startswith(in_host):
        base += f"/{quote(place.address.bucket)}"
    if base == place.base:
        return None
    return msgspec.structs.replace(place, base=base, region=region_in(host) or place.region)


def _place(address: StoreAddress, said: Surroundings, region: str) -> Place:
    try:
        endpoint = normalize_endpoint(said.endpoint_url or _aws_endpoint(region))
        base = _base(address, said, endpoint)
    except BadURI as exc:
        raise NoPlace(exc.message) from exc
    except BotoCoreError as exc:
        raise NoPlace(f"the region {region!r} leads nowhere") from exc
    traits = traits_of(endpoint)
    return Place(address, said, region, endpoint, base, traits)


def _base(address: StoreAddress, said: Surroundings, endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if _is_virtual(address.bucket, said, parts.hostname or ""):
        return normalize_endpoint(f"{parts.scheme}://{address.bucket}.{parts.netloc}{parts.path}")
    return f"{parts.scheme}://{parts.netloc}{parts.path}/{quote(address.bucket)}"


def _port_in(netloc: str) -> str:
    return "".join(netloc.rpartition("]")[2].partition(":")[1:])


def _is_virtual(bucket: str, said: Surroundings, host: str) -> bool:
    """Whether the bucket is part of the host's name: on AWS, or where it is asked for.

    A bucket with a dot in its name would not match the certificate for ``*.s3.….amazonaws.com``; below an IP
    address there are no names.
    """
    on_aws = said.endpoint_url is None and "." not in bucket
    if said.addressing or not on_aws:
        return said.addressing == "virtual" and not _is_ip(host)
    return True


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


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
