"""``wherry.Artifact``: what users build, log, find and download.

Owns: names, defaults and documentation of its methods. Does not own: what they do (``contents``,
``life``, ``download``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wherry import active, listings
from wherry.bases import Base
from wherry.building import Building
from wherry.contents import Contents
from wherry.idle import IdleContents
from wherry.later import LaterArtifact
from wherry.life import Life, Sender, check_aliases
from wherry.notices import warn_of_no_registry, warn_once
from wherry.stored import StoredVersion
from wherry.wire import names
from wherry.wire.canonical import Json, plain_metadata
from wherry.wire.names import check_name

if TYPE_CHECKING:
    from wherry.catalog import ArtifactCollection
    from wherry.known_runs import KnownRun

PENDING = "PENDING"
COMMITTED = "COMMITTED"
DELETED = "DELETED"


class Artifact(Building, LaterArtifact):
    """One version of an artifact, to be built and logged, or found in a store.

    Args:
        name: 1 to 128 characters, none of ``/``, ``:`` and control characters.
        type: likewise; a name belongs to one type for ever.
        description: free text.
        metadata: JSON data, 1 MiB at most; numpy scalars and arrays become numbers and lists.
        incremental: what is added, and what is removed, are changes to whichever version comes before the
            one that it becomes; all else is in it as it was.
        use_as: accepted for W&B's sake, without effect; so are the two that follow.
        storage_region: see ``use_as``.
        digest_algorithm: see ``use_as``; digests are SHA-256.

    Raises:
        BadName, BadMetadata: choose another one.
    """

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 (W&B's name)
        description: str | None = None,
        metadata: Mapping[str, object] | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        storage_region: str | None = None,
        digest_algorithm: str | None = None,
    ) -> None:
        del use_as, storage_region, digest_algorithm
        check_name("artifact", name)
        check_name("type", type)
        contents = IdleContents if active.is_disabled() else Contents
        self._life = Life(name, type, contents(f"artifact {name!r}"))
        self._life.description = names.check_text("description", description)
        self._life.metadata = plain_metadata(metadata)
        if incremental and self._life.contents is not None:
            self._life.contents.change(Base())

    def __repr__(self) -> str:
        return f"<Artifact {self._life.label!r} of type {self.type!r}>"

    # ── its life ───────────────────────────────────────────────────────────────────────────────
    def log_by(self, sender: Sender, aliases: Sequence[str], tags: Sequence[str] = ()) -> None:
        """Hand the artifact to the daemon; what ``Run.log_artifact`` calls."""
        self._life.log(sender, aliases, tags)

    def pretend(self, project: str, version: str = "v0") -> None:
        """Look like a version in disabled mode; what a disabled run calls."""
        self._life.pretend(project, version)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Return when the artifact is a version in the store and has its aliases.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            WaitTimeoutError: names the stage; the work goes on.
            RequestFailed, or the class that says why it failed.
            Offline: offline mode holds it.
            ArtifactNotLoggedError: it was not logged.
        """
        self._life.wait(timeout)
        return self

    def save(self, project: str | None = None, settings: object = None) -> None:
        """Write what was changed of a version into the store; log what is none by the active run.

        Of a version, ``description``, ``metadata``, ``tags`` and ``aliases`` may be changed; what somebody
        else has saved meanwhile of the others stays. Without an active run one is made to log it.

        Raises:
            BadName, BadMetadata: choose another one; ``latest`` can't be moved.
            NotFoundError: the version was deleted.
            StoreError: the store can't be written now; save it again.
            As ``wait``.
        """
        if self._life.is_logged:
            self._life.save()
        else:
            active.log_alone(self, project, settings)

    def delete(self, delete_aliases: bool = False) -> None:
        """Delete this version: nobody finds it any more, and its number is not used again.

        Its bytes stay in the store, where other versions may name them.

        Args:
            delete_aliases: also where it has aliases, which then name nothing; else that is an error.

        Raises:
            UsageError: it has aliases.
            NotFoundError, StoreError; as ``wait``.
        """
        self._life.delete(with_aliases=delete_aliases)

    def new_draft(self) -> Artifact:
        """Make an Artifact that has all that this version has; change some of it, and log it.

        What stays is neither fetched nor sent. It is logged to the project and the store of this version.

        Raises:
            ArtifactNotLoggedError: it was not logged. As ``wait``: it waits until it is a version.
            ArtifactStateError: the version was deleted.
        """
        life = self._life
        life.check_there()
        stored = None if life.nowhere else self._stored()
        draft = Artifact(life.name, life.type, life.description, life.metadata)
        if stored is not None and draft._life.contents is not None:
            draft._life.contents.change(Base(stored))
        return draft

    def logged_by(self, *, fresh: bool = False) -> KnownRun | None:
        """Find the run that logged this version; None where its record names none. Raises as ``wait``.

        Args:
            fresh: look at the store now, however short ago that was.
        """
        from wherry import known_runs

        return known_runs.logger_of(self._stored(), fresh=fresh)

    def used_by(self, *, fresh: bool = False) -> list[KnownRun]:
        """Find the runs that used this version, those that began last first. Raises as ``wait``.

        Args:
            fresh: look at the store now, however short ago that was.
        """
        from wherry import known_runs

        return known_runs.users_of(self._stored(), fresh=fresh)

    def link(self, target_path: str, aliases: Sequence[str] | None = None) -> Artifact:
        """Log this if it was not logged; link it nowhere, and warn of that once: there is no registry.

        Args:
            target_path: accepted, without effect; so is ``aliases``.
            aliases: see ``target_path``.

        Raises:
            As ``save``.
        """
        del target_path, aliases
        warn_of_no_registry("Artifact.link()")
        if not self.is_logged:
            self.save()
        return self

    def unlink(self) -> None:
        """Do nothing, and warn of that once: nothing was linked."""
        warn_of_no_registry("Artifact.unlink()")

    @property
    def is_found(self) -> bool:
        """Whether it was found in a store, and not made here."""
        return self._life.contents is None

    @property
    def is_logged(self) -> bool:
        """Whether it was logged, or was found in a store."""
        return self._life.is_logged

    def is_draft(self) -> bool:
        """Tell whether this is no version yet."""
        return self.state == PENDING

    # ── what it is ─────────────────────────────────────────────────────────────────────────────
    @property
    def base_name(self) -> str:
        """``name``, without a version; asks nobody."""
        return self._life.name

    @property
    def name(self) -> str:
        """``name``; ``name:v3`` once it is a version."""
        version = self._life.version_if_known()
        return f"{self._life.name}:{version}" if version else self._life.name

    @property
    def type(self) -> str:
        """The type that the name belongs to."""
        return self._life.type

    @property
    def version(self) -> str:
        """``v3``. Raises ``ArtifactNotLoggedError`` before the commit: ``wait()`` first."""
        return self._life.version()

    @property
    def state(self) -> str:
        """``PENDING`` until it is a version, then ``COMMITTED``; ``DELETED`` after ``delete``."""
        if self._life.is_deleted:
            return DELETED
        return COMMITTED if self._life.version_if_known() else PENDING

    @property
    def aliases(self) -> list[str]:
        """Its aliases; before the commit those it was given. Change the list, then ``save``."""
        self._life.stored_if_known()
        return self._life.aliases

    @aliases.setter
    def aliases(self, aliases: Sequence[str]) -> None:
        self._life.aliases = check_aliases(aliases)

    @property
    def tags(self) -> list[str]:
        """Its tags. Change the list, then ``save``."""
        return self._life.tags

    @tags.setter
    def tags(self, tags: Sequence[str]) -> None:
        self._life.tags = [names.check_name("tag", tag) for tag in tags]

    @property
    def metadata(self) -> dict[str, Json]:
        """Its metadata; what is changed of a version counts when ``save`` has written it."""
        self._life.look_at_draft()
        return self._life.metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, object]) -> None:
        self._life.metadata = plain_metadata(metadata)

    @property
    def description(self) -> str | None:
        """Its description; what is changed of a version counts when ``save`` has written it."""
        self._life.look_at_draft()
        return self._life.description

    @description.setter
    def description(self, description: str | None) -> None:
        self._life.description = names.check_text("description", description)

    @property
    def digest(self) -> str:
        """SHA-256 of the entries. Before it is logged that hashes them all; then it waits."""
        contents = self._life.built
        if contents is None or (self._life.is_logged and contents.keeps):
            return self._stored().record.digest
        return listings.built_digest(contents)

    @property
    def size(self) -> int:
        """Bytes of all entries whose size is known."""
        contents = self._life.built
        if contents is None:
            return self._stored().record.size
        return sum(row.size for row in contents.table.rows() if row.size > 0)

    @property
    def file_count(self) -> int:
        """How many entries it has."""
        return len(self._listing())

    @property
    def id(self) -> str | None:
        """The id of the request that made the version; None before the commit."""
        stored = self._life.stored_if_known()
        return stored.record.request_id if stored else None

    @property
    def commit_hash(self) -> str:
        """SHA-256 of the manifest. Raises ``ArtifactNotLoggedError``."""
        return self._stored().record.manifest

    @property
    def created_at(self) -> str | None:
        """When the version was made, RFC 3339 in UTC; None before the commit."""
        stored = self._life.stored_if_known()
        return stored.record.created if stored else None

    @property
    def updated_at(self) -> str | None:
        """When something of the version was saved last, else when it was made; as ``created_at``."""
        stored = self._life.stored_if_known()
        return (stored.record.edited or stored.record.created) if stored else None

    @property
    def project(self) -> str:
        """The project. Raises ``ArtifactNotLoggedError``."""
        return self._life.owner()[1]

    @property
    def entity(self) -> str | None:
        """The entity that the run was given which logged it. Raises ``ArtifactNotLoggedError``."""
        return self._life.owner()[0]

    @property
    def qualified_name(self) -> str:
        """``entity/project/name:v3``, as ``use_artifact`` takes it; without an entity if none."""
        return "/".join(part for part in (*self._life.owner(), self.name) if part)

    @property
    def collection(self) -> ArtifactCollection:
        """All versions of this name, as one thing. Raises ``ArtifactNotLoggedError``."""
        from wherry.catalog import ArtifactCollection

        return ArtifactCollection(self._life.where(), self.type)

    source_collection = collection

    @property
    def incremental(self) -> bool:
        """Whether it was made with ``incremental=True``."""
        return self._life.is_incremental

    @property
    def distributed_id(self) -> str | None:
        """The id of the draft that it was upserted to, or that it finishes; None for any other."""
        draft = self._life.place.draft if self._life.place else None
        return draft.distributed_id if draft else None

    @property
    def ttl(self) -> None:
        """None: nothing expires. What it is set to is warned of once, and has no effect."""

    @ttl.setter
    def ttl(self, ttl: object) -> None:
        if ttl is not None:
            warn_once("wherry: Artifact.ttl has no effect: no version is ever deleted by itself.")

    @property
    def url(self) -> None:
        """None: there is no web page."""

    source_name = name
    source_version = version
    source_project = project
    source_entity = entity
    source_qualified_name = qualified_name


class StoredArtifact(Artifact):
    """A version that was found in a store; what ``Api().artifact`` and ``use_artifact`` give."""

    def __init__(self, found: StoredVersion) -> None:
        self._life = Life.of(found)
