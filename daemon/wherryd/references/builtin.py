"""The resolvers that come with Wherry. Owns: their schemes. Does not own: what they do.

Their libraries take a tenth of a second to import, and are imported at the first URI of their scheme, beside
the loop.
"""

from __future__ import annotations

from functools import partial

from wherryd.clock import Clock
from wherryd.references.base import Resolver
from wherryd.references.table import Make, Resolvers, installed
from wherryd.stores.credentials import CredentialSets

_MODULES = {
    "http": "wherryd.references.http",
    "https": "wherryd.references.http",
    "s3": "wherryd.references.s3",
    "gs": "wherryd.references.gs",
}


def open_resolvers(clock: Clock, credentials: CredentialSets) -> Resolvers:
    """Make the table of all resolvers; each is opened at its first use.

    Another package's resolver does not replace one of Wherry's.

    Args:
        credentials: of buckets, by their addresses.
    """
    own: dict[str, Make] = {
        "http": _http,
        "https": _http,
        "s3": partial(_s3, credentials),
        "gs": partial(_gs, credentials),
    }
    return Resolvers(clock, own, _MODULES, installed)


def _http(clock: Clock) -> Resolver:
    from wherryd.references.http import HttpResolver
    from wherryd.references.session import Session

    return HttpResolver(clock, Session())


def _s3(credentials: CredentialSets, clock: Clock) -> Resolver:
    from wherryd.references.s3 import S3Resolver

    return S3Resolver(clock, credentials)


def _gs(credentials: CredentialSets, clock: Clock) -> Resolver:
    from wherryd.references.gs import GsResolver
    from wherryd.references.session import Session

    return GsResolver(clock, credentials, Session())
