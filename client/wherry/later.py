"""What will be there. Owns: saying "not yet" under the names that programs call.

Every call that can do nothing else stands here, in a class whose name begins with ``Later``: so the
README's table of what works is held to the code.
"""

from __future__ import annotations

from typing import NoReturn

from wherry.errors import NotYet


class LaterArtifact:
    """The part of ``Artifact`` that is not built yet; every call raises ``NotYet``."""

    def __reduce__(self) -> NoReturn:
        raise NotYet(
            "Artifacts can't be copied or pickled yet.",
            hint="Log it here, or hand over the files' paths and build it there.",
        )


class LaterType:
    """What will be a data type; making one raises ``NotYet``."""

    def __init__(self, *_: object, **__: object) -> None:
        name = self.__class__.__name__
        raise NotYet(
            f"wherry.{name} is not built yet.", hint="Save the data to a file and use add_file."
        )
