"""``wherry ls`` and ``wherry show``: what is in a store. They change nothing."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Sequence
from itertools import islice

from wherry import messages as pb
from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import command, option
from wherry.cli.words import (
    count_text,
    local_time,
    printable,
    seconds_until,
    span_text,
)
from wherry.progress import size_text

_SHORT_DIGEST = 19  # "sha256:" and 12 digits, as for git's commits


@command(
    option(
        "name",
        nargs="?",
        metavar="[PROJECT/]NAME",
        type=params.check_lane,
        help="The artifact whose versions are listed.",
    ),
    params.TYPE,
    params.PROJECT,
    params.STORE,
    params.JSON,
)
def ls(
    name: str | None, type_: str | None, project: str | None, store: str | None, json: bool
) -> None:
    """List a project's artifacts, or one artifact's versions.

    What is still in the queue is not listed: see `wherry queue`.

      wherry ls --project cats
      wherry ls cats/model

    --json gives an array, an object a line. Without a name: project, name,
    type, latest ("v3", or null where every version is deleted). With a name,
    newest first: the keys of `wherry show --json`, without files.
    """
    daemon = Daemon(settings(project, store))
    if name is None:
        _list_artifacts(daemon, type_ or "", as_json=json)
    else:
        meant = params.target(name, daemon.settings.project)
        versions = daemon.versions(meant.project, meant.name, type_ or "")
        _list_versions(versions, as_json=json)


@command(
    params.ARTIFACT,
    params.ALL.but(help="Print every entry."),
    params.TYPE,
    params.PROJECT,
    params.STORE,
    params.JSON,
)
def show(
    artifact: str,
    all_: bool,
    type_: str | None,
    project: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Show a version: its record and its entries.

    A reference is shown with its URI, its scheme, the checksum that its
    server gave, and how long ago that was asked. Without --all, a table
    stops after 100 entries.

      wherry show model:v3
      wherry show cats/model:best --json | jq -r '.files[].path'

    --json gives one object: store, project, name, version ("v3"), type,
    description, metadata, aliases, tags, entries (how many), size, digest,
    content, manifest, request, created, run (id, name, group, job_type),
    inputs, client; and files, an array by path of path, digest, size, and for
    a reference ref (its URI), scheme, version, resolved, sums (an array of
    the further checksums that its server gave).
    """
    daemon = Daemon(settings(project, store))
    meant = params.target(artifact, daemon.settings.project)
    found = daemon.version(meant.project, meant.name, meant.version, type_ or "")
    entries = daemon.entries(found)
    if json:
        output.print_json_with(version_json(found), "files", map(_entry_json, entries))
    else:
        _print_version(found)
        _print_entries(entries, found.entries if all_ else _SHOWN, found.entries)


_SHOWN = 100


def version_json(found: pb.Version) -> dict[str, object]:
    """Give the keys that ``--json`` shows of a version; they stay as they are."""
    run = found.run
    return {
        "store": found.store,
        "project": found.project,
        "name": found.name,
        "version": f"v{found.version}",
        "type": found.type,
        "description": found.description if found.HasField("description") else None,
        "metadata": json_text.loads(found.metadata or b"{}"),
        "aliases": list(found.aliases),
        "tags": list(found.tags),
        "entries": found.entries,
        "size": found.size,
        "digest": found.digest,
        "content": found.content,
        "manifest": found.manifest,
        "request": found.request_id,
        "created": found.created,
        "run": {
            "id": run.id or None,
            "name": run.name or None,
            "group": run.group or None,
            "job_type": run.job_type or None,
        },
        "inputs": list(found.inputs),
        "client": found.client,
    }


def _list_artifacts(daemon: Daemon, type_: str, *, as_json: bool) -> None:
    found = daemon.artifacts(type_)
    if as_json:
        output.print_array(map(_artifact_json, found))
        return
    rows = [(printable(each.name), printable(each.type), _latest(each) or "-") for each in found]
    output.print_table(("artifact", "type", "latest"), rows)
    if not rows:
        chosen = daemon.settings
        output.note(f"no artifacts in project {chosen.project} of {chosen.store}")


def _artifact_json(found: pb.ArtifactName) -> dict[str, object]:
    return {
        "project": found.project,
        "name": found.name,
        "type": found.type,
        "latest": _latest(found),
    }


def _latest(found: pb.ArtifactName) -> str | None:
    return f"v{found.latest}" if found.latest >= 0 else None


def _list_versions(versions: Iterator[pb.Version], *, as_json: bool) -> None:
    if as_json:
        output.print_array(map(version_json, versions))
        return
    columns = ("version", "aliases", "entries>", "size>", "created", "run", "digest")
    output.print_table(columns, map(_version_row, versions))


def _version_row(found: pb.Version) -> Sequence[str]:
    return (
        f"v{found.version}",
        printable(", ".join(found.aliases)),
        f"{found.entries:,}",
        size_text(found.size),
        local_time(found.created),
        printable(found.run.name or found.run.id),
        found.digest[:_SHORT_DIGEST],
    )


def _print_version(found: pb.Version) -> None:
    run = found.run
    fields = {
        "artifact": f"{found.project}/{found.name}:v{found.version}",
        "type": found.type,
        "aliases": ", ".join(found.aliases),
        "description": found.description,
        "metadata": json_text.dumps(json_text.loads(found.metadata or b"{}"), ensure_ascii=False),
        "tags": ", ".join(found.tags),
        "created": f"{local_time(found.created)} by {found.client}",
        "run": " ".join(filter(None, (run.id, run.name, run.group, run.job_type))),
        "inputs": ", ".join(found.inputs),
        "content": f"{count_text(found.entries, 'entry', 'entries')}, {size_text(found.size)}",
        "digest": found.digest,
        "manifest": found.manifest,
        "request": found.request_id,
        "store": found.store,
    }
    output.print_fields((name, printable(value)) for name, value in fields.items() if value)


def _print_entries(entries: Iterator[pb.Entry], limit: int, count: int) -> None:
    shown = [*islice(entries, limit)]
    output.print_text()
    if any(_is_reference(entry) for entry in shown):
        columns = ("path", "size>", "digest", "reference", "scheme", "seen")
        output.print_table(columns, map(_reference_row, shown))
    else:
        rows = ((printable(entry.path), size_text(entry.size), entry.digest) for entry in shown)
        output.print_table(("path", "size>", "digest"), rows)
    if count > len(shown):
        output.note(f"… and {count - len(shown):,} more; --all prints them")


def _reference_row(entry: pb.Entry) -> Sequence[str]:
    path, size = printable(entry.path), size_text(entry.size)
    if not _is_reference(entry):
        return path, size, entry.digest, "", "", ""
    reference = entry.reference
    age_s = seconds_until(reference.resolved)
    seen = "" if age_s is None else f"{span_text(-age_s)} ago"
    digest = printable(entry.digest) or "no checksum"
    return path, size, digest, printable(reference.uri), _scheme(reference.uri), seen


def _entry_json(entry: pb.Entry) -> dict[str, object]:
    shown: dict[str, object] = {
        "path": entry.path,
        "digest": entry.digest or None,
        "size": entry.size,
    }
    if _is_reference(entry):
        reference = entry.reference
        shown |= {
            "ref": reference.uri,
            "scheme": _scheme(reference.uri),
            "version": reference.version or None,
            "resolved": reference.resolved or None,
            "sums": list(reference.sums),
        }
    return shown


def _is_reference(entry: pb.Entry) -> bool:
    return entry.HasField("reference")


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]
