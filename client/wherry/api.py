"""``wherry.Api``: looking into a store without a run. Owns: how its names are read.

Does not own: reading (``stored``), what a version can do (``artifact``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry import catalog, known_runs, starting, stored
from wherry.artifact import Artifact, StoredArtifact
from wherry.catalog import (
    ArtifactCollection,
    ArtifactCollections,
    Artifacts,
    ArtifactType,
    ArtifactTypes,
)
from wherry.errors import NotFoundError, TypeTaken
from wherry.known_runs import KnownRun
from wherry.lineage import Lineage, trace
from wherry.wire.names import ArtifactRef, check_name, parse_artifact_ref


class Api:
    """Finds artifacts in the store that the settings name.

    Args:
        overrides: "project" and "store" in place of the settings; "entity" is accepted.
        timeout: accepted for W&B's sake, without effect; so is ``api_key``.
        api_key: see ``timeout``.

    Raises:
        BadSetting, BadURI: a setting can't be used.
        DaemonMissing, DaemonNotStarted: there is no daemon and none can be started.
    """

    def __init__(
        self,
        overrides: Mapping[str, object] | None = None,
        timeout: int | None = None,
        api_key: str | None = None,
    ) -> None:
        del timeout, api_key
        given = overrides or {}
        said = {name: given[name] for name in ("project", "store") if name in given}
        self._settings = starting.load_settings({**said, "mode": "online"})
        starting.greet(self._settings)

    def artifact(self, name: str, type: str | None = None) -> Artifact:  # noqa: A002 (W&B's name)
        """Find one version.

        Args:
            name: ``name:alias``, ``project/name:v3``, ``entity/project/name:v3``; the latest version
                where none is named.
            type: what it has to be of.

        Raises:
            NotFoundError: no such artifact, version or alias.
            TypeTaken: it is of another type.
            StoreError: the store can't be read now.
        """
        ref, where = self._place(name)
        return StoredArtifact(stored.find(where, ref.version, type))

    def artifacts(
        self,
        type_name: str | None,
        name: str,
        per_page: int = 50,
        tags: str | Sequence[str] | None = None,
    ) -> Artifacts:
        """Find all versions of an artifact, newest first; they are read as far as somebody looks.

        Args:
            type_name: what it has to be of; None for any.
            name: ``name`` or ``project/name``.
            per_page: how many are read at first; each page that follows is as long as all before.
            tags: only versions that have them all.

        Raises:
            UsageError: ``per_page`` is less than one.
            NotFoundError, TypeTaken, StoreError: as ``artifact``, at the first look into the list.
        """
        wanted = [tags] if isinstance(tags, str) else (tags or ())
        return Artifacts(self._place(name)[1], type_name, per_page, wanted)

    def artifact_types(self, project: str | None = None) -> ArtifactTypes:
        """List the types that a project has artifacts of.

        Args:
            project: ``project`` or ``entity/project``; the settings' by default.

        Raises:
            StoreError: the store can't be read now; at the first look into the list.
        """
        return ArtifactTypes(self._shelf(project))

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        """Find a type. Raises ``NotFoundError`` where no artifact is of it, ``StoreError``."""
        return catalog.find_type(self._shelf(project), type_name)

    def artifact_collections(
        self, project_name: str, type_name: str, per_page: int = 50
    ) -> ArtifactCollections:
        """List a project's artifacts of a type, by name.

        Args:
            project_name: as for ``artifact_types``.
            type_name: of which type.
            per_page: accepted, without effect.

        Raises:
            StoreError: the store can't be read now; at the first look into the list.
        """
        del per_page
        return ArtifactCollections(self._shelf(project_name), type_name)

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        """Find an artifact, which is all versions of its name.

        Args:
            type_name: what it has to be of.
            name: ``name`` or ``project/name``.

        Raises:
            NotFoundError: there is none of this name and type that has a version.
            StoreError: the store can't be read now.
        """
        return catalog.find_collection(self._place(name)[1], type_name)

    def runs(
        self,
        path: str | None = None,
        filters: Mapping[str, object] | None = None,
        order: str = "-created_at",
        per_page: int = 50,
        *,
        group: str | None = None,
        fresh: bool = False,
    ) -> list[KnownRun]:
        """Find the runs of a project that have logged or used something, those that began last first.

        Args:
            path: ``project`` or ``entity/project``; the settings' project by default.
            filters: {"group": …}, {"job_type": …}, {"display_name": …}, {"state": …}; other filters of W&B's
                are an error.
            order: ``-created_at``, or ``+created_at`` for those that began first.
            per_page: accepted, without effect.
            group: only runs of this group.
            fresh: look at the store now, however short ago that was.

        Raises:
            UsageError: a filter or an order that there is not.
            StoreError: the store can't be read now.
        """
        del per_page
        shelf = self._shelf(path)
        return known_runs.choose(shelf, filters or {}, order, group or "", fresh=fresh)

    def run(self, path: str, *, fresh: bool = False) -> KnownRun:
        """Find a run that has logged or used something.

        Args:
            path: ``id``, ``project/id`` or ``entity/project/id``.
            fresh: look at the store now, however short ago that was.

        Raises:
            NotFoundError: there is none.
            StoreError: the store can't be read now.
        """
        place, _, run_id = path.strip("/").rpartition("/")
        return known_runs.find_run(self._shelf(place), check_name("run id", run_id), fresh=fresh)

    def lineage(
        self,
        name: str,
        depth: int | None = None,
        *,
        rebuild: bool = False,
        fresh: bool = False,
    ) -> Lineage:
        """Trace what a version was made of, and what was made of it.

        Args:
            name: as for ``artifact``.
            depth: how many runs far; None: as far as it goes.
            rebuild: read the store anew, whatever this machine knows of it.
            fresh: look at the store now, however short ago that was.

        Raises:
            NotFoundError, StoreError: as ``artifact``.
        """
        ref, where = self._place(name)
        record = stored.find(where, ref.version).record
        return trace(where.home, where.store, record, depth, rebuild=rebuild, fresh=fresh)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:  # noqa: A002
        """Tell whether there is such a version."""
        try:
            self.artifact(name, type)
        except (NotFoundError, TypeTaken):
            return False
        return True

    def artifact_collection_exists(self, name: str, type: str) -> bool:  # noqa: A002
        """Tell whether there is an artifact of this name and type, with at least one version."""
        _, where = self._place(name)
        try:
            stored.find(where, "", type)
        except (NotFoundError, TypeTaken):
            return False
        return True

    def _shelf(self, text: str | None) -> stored.Shelf:
        settings = self._settings
        project = text.rpartition("/")[2] if text else settings.project
        return stored.Shelf(settings.home, settings.store, check_name("project", project))

    def _place(self, text: str) -> tuple[ArtifactRef, stored.Place]:
        ref, settings = parse_artifact_ref(text), self._settings
        project = ref.project or settings.project
        return ref, stored.Place(settings.home, settings.store, project, ref.name)
