"""Logging what is a version already: it stays that version.

Owns: where that can be, and what is then asked for. Does not own: asking (``stored``), an ``Artifact``
that was made here and is logged twice (``life``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry import messages as pb
from wherry.errors import ArtifactStateError, Offline, UsageError

if TYPE_CHECKING:
    from wherry.life import Sender


def changes(
    record: pb.Version, sender: Sender, aliases: Sequence[str], tags: Sequence[str]
) -> pb.EditVersionRequest | None:
    """Say what logging a version changes of it; None where nothing.

    Args:
        record: as it was read last.
        sender: the run that logs.
        aliases: that it shall have, too; such as are elsewhere move, as ``save`` moves them.
        tags: likewise.

    Raises:
        UsageError: the run logs to another project or store.
        ArtifactStateError: it shall be put into a draft.
        Offline: offline mode sends nothing.
    """
    label = f"{record.project}/{record.name}:v{record.version}"
    _check_place(record, sender, label)
    new_aliases = [each for each in dict.fromkeys(aliases) if each not in record.aliases]
    new_tags = [each for each in dict.fromkeys(tags) if each not in record.tags]
    if not (new_aliases or new_tags):
        return None
    if sender.offline:
        raise Offline(
            f"Offline mode sends nothing, so {label} gets no aliases and no tags.",
            hint="Leave them out, or log it online.",
        )
    request = pb.EditVersionRequest(add_aliases=new_aliases)
    if new_tags:
        request.tags.tags.extend([*record.tags, *new_tags])
    return request


def _check_place(record: pb.Version, sender: Sender, label: str) -> None:
    there, here = (record.store, record.project), (sender.store, sender.project)
    if there != here:
        what, was, now = (
            ("project", record.project, sender.project)
            if record.store == sender.store
            else ("store", record.store, sender.store)
        )
        raise UsageError(
            f"{label} is a version in the {what} {was}, and this run logs to {now}.",
            hint="Log it by a run of there, or make a new Artifact and add what download() brings; "
            "use_artifact() notes that this run uses it.",
        )
    if sender.draft is not None:
        raise ArtifactStateError(
            f"{label} is a version already, and can't be put into a draft.",
            hint="Make a new Artifact and add what download() brings.",
        )
