"""The protos' messages, loaded at their first use: ``from wherry import messages as pb``.

Owns: when protobuf is imported. So a module that only speaks of messages costs nothing to import, and
no fork falls into the middle of the import (``wire.late``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.wire import late

if TYPE_CHECKING:
    from wherry.wire.wherry_pb2 import *  # noqa: F403


def __getattr__(name: str) -> object:
    with late.importing:
        from wherry.wire import wherry_pb2
    value = globals()[name] = getattr(wherry_pb2, name)
    return value
