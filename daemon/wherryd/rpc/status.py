"""Errors as a gRPC status and the trailing metadata ``wherry-error``.

Owns: which status stands for which class. Does not own: the classes (``wherry.errors``).
The statuses are those of gRPC's "Status codes and their use" page; our client goes by the class.
"""

from __future__ import annotations

import grpc

from wherry import errors
from wherryd.public import public_name

#: The first class that fits counts.
_CODES: tuple[tuple[type[errors.WherryError], grpc.StatusCode], ...] = (
    (errors.RequestIdTaken, grpc.StatusCode.ALREADY_EXISTS),
    (errors.UsageError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ProtocolError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotYet, grpc.StatusCode.UNIMPLEMENTED),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.SpoolFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.WaitTimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.DaemonLeaving, grpc.StatusCode.UNAVAILABLE),
    (errors.StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.AccessRefused, grpc.StatusCode.PERMISSION_DENIED),
    (errors.StoreDamaged, grpc.StatusCode.DATA_LOSS),
)


def code_of(error: errors.WherryError) -> grpc.StatusCode:
    """The status that comes nearest to an error."""
    fitting = (code for class_, code in _CODES if isinstance(error, class_))
    return next(fitting, grpc.StatusCode.FAILED_PRECONDITION)


def trailer_of(error: errors.WherryError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that names the error's class."""
    return (("wherry-error", public_name(error)),)
