"""What a project has: its types, the artifacts of a type, the versions of an artifact.

Owns: these under W&B's names, and when the store is asked for them. Does not own: reading (``stored``), how
names are read (``api``), what a version can do (``artifact``).
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry import stored
from wherry.artifact import Artifact, StoredArtifact
from wherry.errors import NotFoundError, UsageError
from wherry.paging import Paged
from wherry.stored import Place, Shelf

#: A page is as long as all before it together, so that long lists take few requests, up to this.
_LONGEST_PAGE = 1000


class Artifacts(Paged[Artifact]):
    """An artifact's versions, newest first; what ``Api().artifacts`` gives.

    Args:
        place: the artifact.
        type_: what it has to be of; None for any.
        per_page: how many are read at first.
        tags: only versions that have them all.

    Raises:
        UsageError: a page has one version at least.
        NotFoundError, TypeTaken, StoreError: at the first look.
    """

    def __init__(
        self, place: Place, type_: str | None, per_page: int = 50, tags: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if per_page < 1:
            raise UsageError(f"A page has one version at least, not {per_page}.")
        self._place = place
        self._type = type_
        self._per_page = per_page
        self._tags = {*tags}
        self._read = 0  # versions, of whatever tags
        self._before: int | None = None  # the lowest of them
        self._counted: int | None = None

    def __repr__(self) -> str:
        return f"<Artifacts {self._place.project}/{self._place.name}>"

    def __len__(self) -> int:
        """Count them: by a listing, where that can tell. Those with given tags have to be read."""
        self._reach(1)
        if not self._more or self._tags:
            return len(self._whole())
        if self._counted is None:
            rest = stored.find_artifact(self._place, self._type, self._before)
            if rest is None or not rest.HasField("versions"):
                return len(self._whole())
            self._counted = self._read + rest.versions
        return self._counted

    def _load(self) -> None:
        count = max(self._per_page, min(self._read, _LONGEST_PAGE))
        page = stored.find_page(self._place, self._type, self._before, count)
        self._more = len(page) >= count
        if page:
            self._read += len(page)
            self._before = page[-1].record.version
        wanted = (each for each in page if self._tags <= {*each.record.tags})
        self._found += [StoredArtifact(each) for each in wanted]


class ArtifactCollection:
    """An artifact: all versions of one name. ``Api().artifact_collection`` and others give it.

    Args:
        place: where it is.
        type_: what it is of.
    """

    entity: None = None

    def __init__(self, place: Place, type_: str) -> None:
        self._place = place
        self.type = type_

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self.name} ({self.type})>"

    @property
    def name(self) -> str:
        """The artifact's name."""
        return self._place.name

    @property
    def project(self) -> str:
        """The project that it is in."""
        return self._place.project

    @property
    def id(self) -> str:
        """``project/name``."""
        return f"{self.project}/{self.name}"

    def artifacts(self, per_page: int = 50) -> Artifacts:
        """List its versions; as ``Api().artifacts``."""
        return Artifacts(self._place, self.type, per_page)

    versions = artifacts

    @property
    def aliases(self) -> list[str]:
        """All aliases that name one of its versions. Raises ``StoreError``."""
        found = stored.find_artifact(self._place)
        return list(found.aliases) if found else []

    @property
    def created_at(self) -> str | None:
        """When the oldest of its versions was made. Raises as ``artifacts``."""
        try:
            return stored.find(self._place, "v0").record.created
        except NotFoundError:  # it was deleted
            versions = self.artifacts()
            return versions[-1].created_at if versions else None

    @property
    def updated_at(self) -> str | None:
        """When the newest was made, or something of it was saved last. Raises as ``artifacts``."""
        versions = self.artifacts(per_page=1)
        return versions[0].updated_at if versions else None

    @property
    def description(self) -> str | None:
        """None: its versions have one each. Setting it raises ``UsageError``."""
        return None

    @description.setter
    def description(self, description: str | None) -> None:
        if description is not None:
            raise UsageError(
                f"{self.id} has no description of its own.",
                hint="Set that of a version, then save() it.",
            )

    @property
    def tags(self) -> list[str]:
        """Empty: its versions have some each."""
        return []

    def is_sequence(self) -> bool:
        """Tell that it is what versions are logged to, which is all there is."""
        return True

    def save(self) -> None:
        """Do nothing: it has nothing that could be changed."""

    def delete(self) -> None:
        """Delete all its versions, with their aliases; the name keeps its type. Raises ``StoreError``."""
        for version in list(self.artifacts()):
            version.delete(delete_aliases=True)


class ArtifactCollections(Paged[ArtifactCollection]):
    """A project's artifacts of one type that have a version, by name.

    Raises:
        StoreError: at the first look.
    """

    def __init__(self, shelf: Shelf, type_: str) -> None:
        super().__init__()
        self._shelf = shelf
        self._type = type_

    def _load(self) -> None:
        named = _with_versions(self._shelf, self._type)
        self._found = [ArtifactCollection(self._shelf.place(each), self._type) for each in named]
        self._more = False


class ArtifactType:
    """A type of a project's artifacts."""

    entity: None = None

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf = shelf
        self.name = self.type = self.id = name
        self.project = shelf.project

    def __repr__(self) -> str:
        return f"<ArtifactType {self.name}>"

    def collections(self, per_page: int = 50) -> ArtifactCollections:
        """List the artifacts of this type; ``per_page`` has no effect."""
        del per_page
        return ArtifactCollections(self._shelf, self.name)

    def collection(self, name: str) -> ArtifactCollection:
        """Find one of them. Raises as ``find_collection``."""
        return find_collection(self._shelf.place(name), self.name)


class ArtifactTypes(Paged[ArtifactType]):
    """The types of a project's artifacts that have a version, by name.

    Raises:
        StoreError: at the first look.
    """

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self._shelf = shelf

    def _load(self) -> None:
        types = {*_with_versions(self._shelf).values()}
        self._found = [ArtifactType(self._shelf, each) for each in sorted(types)]
        self._more = False


def find_collection(place: Place, type_: str) -> ArtifactCollection:
    """Find an artifact.

    Raises:
        NotFoundError: there is none of this name and type that has a version.
        StoreError: the store can't be read now.
    """
    found = stored.find_artifact(place, type_)
    if found is None or found.latest < 0:
        raise NotFoundError(f"There is no artifact {place.project}/{place.name} of type {type_!r}.")
    return ArtifactCollection(place, found.type)


def find_type(shelf: Shelf, name: str) -> ArtifactType:
    """Find a type; raises as ``find_collection``."""
    if not _with_versions(shelf, name):
        raise NotFoundError(f"{shelf.project} has no artifact of type {name!r}.")
    return ArtifactType(shelf, name)


def _with_versions(shelf: Shelf, type_: str = "") -> dict[str, str]:
    """List the artifacts that have a version, and what each is of."""
    found = stored.find_artifacts(shelf, type_)
    return {each.name: each.type for each in found if each.latest >= 0}
