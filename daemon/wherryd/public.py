"""Errors as users see them. Ground floor: no I/O."""

from __future__ import annotations

from wherry.errors import BY_NAME, WherryError


def public_name(error: WherryError) -> str:
    """The name under which a user can catch the error: the nearest class of ``wherry.errors``."""
    return next(cls.__name__ for cls in type(error).__mro__ if BY_NAME.get(cls.__name__) is cls)
