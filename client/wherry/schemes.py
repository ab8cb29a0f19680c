"""Which schemes of references somebody resolves.

Owns: asking the daemon about those that are not Wherry's own, once for a process. Does not own: resolving.
"""

from __future__ import annotations

from wherry import messages as pb
from wherry.connection import connect
from wherry.errors import BadURI
from wherry.wire import places
from wherry.wire.secrets import masked

_known: set[str] = set()


def check(scheme: str, uri: str) -> None:
    """Make sure that the daemon has a resolver for a scheme.

    Raises:
        BadURI: it has none; the message lists those that there are.
        CommError: it can't be asked.
    """
    if scheme in _known:
        return
    reply = connect(places.home()).unary(
        "ListSchemes", pb.ListSchemesRequest(), pb.ListSchemesReply
    )
    _known.update(reply.schemes)
    if scheme not in _known:
        raise BadURI(
            f"Nobody here resolves {scheme}:// ({masked(uri)}). "
            f"Known are {', '.join(sorted({'file', *_known}))}.",
            hint="checksum=False records the URI as it is; docs/references.md tells how to add a scheme.",
        )
