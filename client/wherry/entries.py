"""One entry of an artifact as users see it. Owns: its facts. Does not own: where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from wherry.errors import UsageError

if TYPE_CHECKING:
    from wherry.held import Held


class Owner(Protocol):
    """The artifact, as its entries need it."""

    def entry_digest(self, path: str) -> str | None:
        """Find an entry's digest; that may hash, or wait for the commit."""
        ...

    def download_entry(self, path: str, root: str | None) -> str:
        """Bring an entry's bytes to this machine; return the file."""
        ...

    def hold(self, paths: Sequence[str]) -> list[Held]:
        """Bring entries' bytes to this machine, into no folder of the user's."""
        ...

    def entry_url(self, path: str) -> str:
        """Give a URL for the entry that other artifacts could refer to."""
        ...


class ManifestEntry:
    """One path in an artifact.

    Args:
        owner: its artifact.
        path: in the artifact.
        size: bytes; None for a reference whose server tells none.
        ref: the URI of a reference, None for bytes that are kept in the store.
        local_path: the file that was added, where it was added in this process.
        digest: None where it is to be found when somebody asks.
        version_id: of a reference whose bucket keeps versions: S3 version id, GCS generation.
    """

    __slots__ = ("_digest", "_owner", "local_path", "path", "ref", "size", "version_id")

    def __init__(
        self,
        owner: Owner,
        path: str,
        size: int | None,
        ref: str | None = None,
        local_path: str | None = None,
        digest: str | None = None,
        version_id: str | None = None,
    ) -> None:
        self._owner = owner
        self._digest = digest
        self.path = path
        self.size = size
        self.ref = ref
        self.local_path = local_path
        self.version_id = version_id

    def __repr__(self) -> str:
        return f"<ManifestEntry {self.path!r}>"

    @property
    def name(self) -> str:
        """The path, under the name that W&B's ``files()`` gives it."""
        return self.path

    @property
    def digest(self) -> str | None:
        """``sha256:<hex>`` of the bytes; of a reference what its server gives, None without any.

        Asking before the commit hashes the captured bytes, or waits for the commit.
        """
        if self._digest is None:
            self._digest = self._owner.entry_digest(self.path)
        return self._digest

    @property
    def extra(self) -> dict[str, str]:
        """What a reference's server has said of it: ``etag``, ``versionID``; empty of anything else."""
        said = {"etag": self._digest_of("etag:"), "versionID": self.version_id}
        return {name: value for name, value in said.items() if value} if self.ref else {}

    def download(self, root: str | None = None) -> str:
        """Bring the bytes to this machine.

        Args:
            root: folder; by default the artifact's, ``./artifacts/<name>:<version>``.

        Returns:
            The path of the file.

        Raises:
            ArtifactNotLoggedError, NotFoundError, StoreError: as ``Artifact.download``.
        """
        return self._owner.download_entry(self.path, root)

    def hold(self) -> Held:
        """Bring the bytes here, into no folder; what ``add_reference`` calls. Raises as ``download``."""
        (held,) = self._owner.hold([self.path])
        return held

    def ref_target(self) -> str:
        """Give the URI that a reference points to. Raises ``UsageError`` for any other entry."""
        if self.ref is None:
            raise UsageError(
                f"The entry {self.path!r} is no reference.", hint="Use entry.download()."
            )
        return self.ref

    def ref_url(self) -> str:
        """Give a URL that names this entry of this version.

        Raises:
            ArtifactNotLoggedError: there is no version yet.
        """
        return self._owner.entry_url(self.path)

    def _digest_of(self, kind: str) -> str | None:
        """Give the digest, if it is known and of this kind."""
        is_known = self._digest is not None and self._digest.startswith(kind)
        return self._digest.removeprefix(kind) if self._digest and is_known else None
