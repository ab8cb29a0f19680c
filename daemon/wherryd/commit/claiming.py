"""Claims an artifact's name for a type.

Owns: the question, the claim, and the look whether it is there. Does not own: when that is done, or what
another type means (``lane``).
"""

from __future__ import annotations

from wherryd.queue.base import Request
from wherryd.registry.base import Registry


async def claimed_type(registry: Registry, request: Request, store_id: str) -> str | None:
    """Give the type that a request's name belongs to, once it was claimed where it was free.

    None: it was claimed, and is not there; another store lay at the address. Raises as ``Registry.read_type``
    and ``claim_type``.
    """
    project, name = request.lane.project, request.lane.name
    there = await registry.read_type(project, name, store_id)
    if there is None:
        await registry.claim_type(project, name, request.type)
        there = await registry.read_type(project, name, store_id)
    return there
