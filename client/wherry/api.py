"""``wherry.Api``: looking into a store without a run. Owns: how its names are read.

Does not own: reading (``stored``), what a version can do (``artifact``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry import starting, stored
from wherry.artifact import Artifact, StoredArtifact
from wherry.errors import NotFoundError, TypeTaken
from wherry.later import LaterApi
from wherry.wire.names import ArtifactRef, parse_artifact_ref


class Api(LaterApi):
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
    ) -> list[Artifact]:
        """Find all versions of an artifact, newest first.

        Args:
            type_name: what it has to be of; None for any.
            name: ``name`` or ``project/name``.
            per_page: accepted, without effect.
            tags: only versions that have them all.

        Raises:
            NotFoundError, TypeTaken, StoreError: as ``artifact``.
        """
        del per_page
        wanted = {tags} if isinstance(tags, str) else set(tags or ())
        found = stored.find_all(self._place(name)[1], type_name)
        return [StoredArtifact(each) for each in found if wanted <= set(each.record.tags)]

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

    def _place(self, text: str) -> tuple[ArtifactRef, stored.Place]:
        ref, settings = parse_artifact_ref(text), self._settings
        project = ref.project or settings.project
        return ref, stored.Place(settings.home, settings.store, project, ref.name)
