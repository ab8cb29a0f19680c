"""What will be there. Owns: saying "not yet" under the names that programs call.

Every call that can do nothing else stands here, in a class whose name begins with ``Later``: so the
README's table of what works is held to the code.
"""

from __future__ import annotations

from typing import NoReturn

from wherry.errors import NotYet
from wherry.run_facts import RunFacts


class LaterArtifact:
    """The part of ``Artifact`` that is not built yet; every call raises ``NotYet``."""

    def __reduce__(self) -> NoReturn:
        raise NotYet(
            "Artifacts can't be copied or pickled yet.",
            hint="Log it here, or hand over the files' paths and build it there.",
        )

    @property
    def collection(self) -> NoReturn:
        """All versions of this name, as one thing."""
        raise NotYet(
            "Artifact.collection is not built yet.", hint="Use Api().artifacts(type, name)."
        )

    def new_draft(self) -> NoReturn:
        """Make a new version from this one."""
        raise NotYet(
            "new_draft() is not built yet.", hint="Make a new Artifact and add what it shall have."
        )

    def link(self, target_path: str, aliases: list[str] | None = None) -> NoReturn:
        """Link this version to another collection."""
        del target_path, aliases
        raise NotYet("Linking versions elsewhere is not built yet.")

    def unlink(self) -> NoReturn:
        """Undo ``link``."""
        raise NotYet("Linking versions elsewhere is not built yet.")


class LaterRun(RunFacts):
    """The part of ``Run`` that is not built yet; every call raises."""

    def link_artifact(self, *_: object, **__: object) -> NoReturn:
        """Link a version elsewhere; not built yet."""
        raise NotYet("Linking versions elsewhere is not built yet.")

    link_model = link_artifact

    def log_code(self, *_: object, **__: object) -> NoReturn:
        """Log the program's source; not built yet."""
        raise NotYet("log_code() is not built yet.", hint="Use log_artifact with the folder.")


class LaterApi:
    """The part of ``Api`` that is not built yet; every call raises ``NotYet``."""

    def artifact_types(self, *_: object, **__: object) -> NoReturn:
        """List the types of a project."""
        raise NotYet("Api().artifact_types() is not built yet.")

    def artifact_type(self, *_: object, **__: object) -> NoReturn:
        """Find a type."""
        raise NotYet("Api().artifact_type() is not built yet.")

    def artifact_collections(self, *_: object, **__: object) -> NoReturn:
        """List the artifacts of a type."""
        raise NotYet("Api().artifact_collections() is not built yet.")


class LaterType:
    """What will be a data type; making one raises ``NotYet``."""

    def __init__(self, *_: object, **__: object) -> None:
        name = self.__class__.__name__
        raise NotYet(
            f"wherry.{name} is not built yet.", hint="Save the data to a file and use add_file."
        )
