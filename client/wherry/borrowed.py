"""Entries of other artifacts, put into a new one by ``add_reference``.

Owns: what a ``wherry-artifact://`` URL names, and which way its entry comes. Does not own: capturing
(``contents``), bringing bytes here (``held``).

What was a reference is one again, and its server is asked anew. Bytes are captured like any others, so that
the new version needs no other; the store has them already and is sent none.
"""

from __future__ import annotations

import shutil
from urllib.parse import quote

from wherry import active, stored
from wherry.contents import Contents
from wherry.entries import ManifestEntry
from wherry.errors import BadURI
from wherry.stored import Place, StoredVersion

_SCHEME = "wherry-artifact://"


def is_url(uri: str) -> bool:
    """Tell whether this is what ``entry.ref_url()`` gives."""
    return uri.startswith(_SCHEME)


def find(url: str) -> ManifestEntry:
    """Find the entry in the store of the active run, else of the settings.

    Raises:
        BadURI: it is no such URL.
        EntryMissing, NotFoundError, StoreError: it is not there, or can't be read now.
    """
    from wherry.artifact import StoredArtifact

    project, name, version, path = _split(url)
    found = _find_version(project, name, version)
    return StoredArtifact(found).get_entry(path)


def pinned(entry: ManifestEntry, ref: str) -> str:
    """Give a reference's URI with the version that was seen there, where the bucket keeps versions."""
    if entry.version_id is None or "?" in ref or "#" in ref:
        return ref
    version = quote(entry.version_id, safe="")
    return f"{ref}#{version}" if ref.startswith("gs://") else f"{ref}?versionId={version}"


def _split(url: str) -> tuple[str, str, str, str]:
    project, _, rest = url.removeprefix(_SCHEME).partition("/")
    label, _, path = rest.partition("/")
    name, _, version = label.partition(":")
    if not (project and name and version and path):
        raise BadURI(
            f"{url} names no entry.", hint=f"Such a URL is {_SCHEME}project/name:v3/path/in/it."
        )
    return project, name, version, path


def _find_version(project: str, name: str, version: str) -> StoredVersion:
    from wherry import starting

    run = active.current()
    settings = run.settings if run else starting.load_settings({"mode": "online"})
    if run is None:
        starting.greet(settings)
    return stored.find(Place(settings.home, settings.store, project, name), version)


def add_bytes(contents: Contents, entry: ManifestEntry, path: str) -> None:
    """Capture an entry's bytes under a path.

    Raises:
        PathTaken: something else was added there.
        As ``Artifact.download``, and ``SpoolFull``.
    """
    source = entry.hold()
    with contents.new_file(path, "xb", None) as written, source.open() as opened:
        shutil.copyfileobj(opened, written, 1 << 20)  # type: ignore[misc]
