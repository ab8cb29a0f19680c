"""Where one artifact stands: being built, handed over, a version in a store.

Owns: the way from one to the next, and what is known at each. Does not own: the entries
(``contents``), the messages (``submit``, ``ticket``, ``stored``), what users see (``artifact``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wherry import again, edits, recent, stored
from wherry import messages as pb
from wherry.connection import connect
from wherry.contents import Contents
from wherry.errors import (
    ArtifactNotLoggedError,
    ArtifactStateError,
    UsageError,
    WherryError,
)
from wherry.stored import Place, StoredVersion
from wherry.submit import Submission
from wherry.ticket import Ticket
from wherry.wire import VERSION, names
from wherry.wire.canonical import Json, metadata_bytes, plain_metadata


class Draft(NamedTuple):
    """What a request does to a draft, instead of logging a version."""

    kind: str  # upsert, finish
    distributed_id: str
    newest: bool = False


class Sender(NamedTuple):
    """The run that logs, as a request has it."""

    home: Path
    store: str
    project: str
    entity: str | None
    run: pb.Run
    inputs: Sequence[str]
    offline: bool
    power: bool
    draft: Draft | None = None


class Life:
    """One artifact.

    Args:
        name: checked.
        type_: checked.
        contents: None for a version that was found in a store.
    """

    def __init__(self, name: str, type_: str, contents: Contents | None) -> None:
        self.name = name
        self.type = type_
        self.contents = contents
        self.description: str | None = None
        self.metadata: dict[str, Json] = {}
        self.aliases: list[str] = []
        self.tags: list[str] = []
        self.place: Sender | None = None  # who logged it
        self.nowhere = ""  # in disabled mode: the version that it is said to be …
        self.nowhere_project = ""  # … and its project
        self._submission: Submission | None = None
        self._was_final = False  # before it was handed over
        self._ticket: Ticket | None = None
        self._stored: StoredVersion | None = None
        self._seen: edits.Seen | None = None  # what it had when it was sent, or read in the store
        self.is_deleted = False

    @classmethod
    def of(cls, found: StoredVersion) -> Life:
        """Make the life of a version that is in a store."""
        record = found.record
        life = cls(record.name, record.type, None)
        life._become(found)
        return life

    @property
    def is_logged(self) -> bool:
        """Whether there is anything to wait for, or a version already."""
        return bool(self._ticket or self._stored or self.nowhere)

    @property
    def built(self) -> Contents | None:
        """What was built here, where that is all it contains; None for what is in the store beside it."""
        return None if self._draft_kind() == "finish" or self._was_incremental else self.contents

    @property
    def _was_incremental(self) -> bool:
        """Whether it is logged, and has more in the store than was built here."""
        is_there = self._ticket is not None or self._stored is not None
        return is_there and self.is_incremental

    @property
    def is_incremental(self) -> bool:
        """Whether it changes whichever version comes before its own."""
        base = self.contents.base if self.contents else None
        return base is not None and base.is_open

    @property
    def is_upsert(self) -> bool:
        """Whether it is a part of a draft, and no version."""
        return self._draft_kind() == "upsert"

    def _draft_kind(self) -> str:
        return self.place.draft.kind if self.place and self.place.draft else ""

    @property
    def request_id(self) -> str | None:
        """The request's id, once the daemon has it."""
        return self._ticket.request_id if self._ticket else None

    # ── logging ────────────────────────────────────────────────────────────────────────────────
    def log(self, sender: Sender, aliases: Sequence[str], tags: Sequence[str]) -> None:
        """Hand the artifact over; the second time, note that this run logged it too.

        Raises as ``Submission.send``; ``PathTaken``, ``BadMetadata``; of a version that was found, as
        ``again.changes`` and ``stored.edit``.
        """
        if self.contents is None:
            self._log_again(sender, aliases, tags)
            return
        if not self.contents.keeps:
            raise ArtifactStateError(
                f"{self.label} was built in disabled mode, which keeps nothing.",
                hint="Make the Artifact after init() of the run that shall log it.",
            )
        with self.contents.lock.held():
            self._check_draft(sender.draft)
            if self._ticket is None:
                self._submit(self.contents, sender, aliases, tags)
            if not self._was_sent_by(sender, aliases):
                self._link(sender, aliases)

    def _log_again(self, sender: Sender, aliases: Sequence[str], tags: Sequence[str]) -> None:
        """Leave a version what it is, but for further aliases and tags."""
        found = self.stored()
        asked = again.changes(found.record, sender, aliases, tags)
        self.check_there()
        if asked is not None:
            self._become(stored.edit(found, asked))
        self.aliases[:] = dict.fromkeys([*self.aliases, *aliases])

    def _check_draft(self, draft: Draft | None) -> None:
        """Raise ``ArtifactStateError`` where it was handed over for something else before.

        Raises ``UsageError`` for changes to a version, which are no part of a draft.
        """
        if draft is not None and self.contents is not None and self.contents.base is not None:
            raise UsageError(
                f"{self.label} is changes to a version, and can't be upserted, nor finish a draft.",
                hint="Log it with log_artifact, or add the files to a new Artifact.",
            )
        if self.place is not None and self.place.draft != draft:
            before = self.place.draft
            what = (
                f"the {before.kind} of the draft {before.distributed_id!r}" if before else "a log"
            )
            raise ArtifactStateError(
                f"{self.label} was handed over before, for {what}.",
                hint="Make a new Artifact for each upsert_artifact, finish_artifact and log_artifact.",
            )

    def pretend(self, project: str, version: str) -> None:
        """In disabled mode: look like a version, and be none, unless it is one."""
        if self._ticket is not None or self._stored is not None:
            return
        self.nowhere, self.nowhere_project = version, project
        if self.contents is not None:
            self.contents.sealed = True

    def _submit(
        self, contents: Contents, sender: Sender, aliases: Sequence[str], tags: Sequence[str]
    ) -> None:
        if self._submission is None:
            contents.own()
            contents.check_tree(contents.table.paths())
            submission = Submission(sender.home, contents, self._header(sender, aliases, tags))
            self._was_final, contents.sealed = contents.sealed, True
            self.place = sender
            self._submission = submission
        try:
            reply = self._submission.send()
        except UsageError:
            self._take_back(contents)
            raise
        self.nowhere = self.nowhere_project = ""
        ticket = Ticket(sender.home, reply.request_id, self.label, held=not reply.place)
        self._ticket = ticket
        contents.spool.forget_memory()
        if not self.is_upsert:
            recent.note(Place(sender.home, sender.store, sender.project, self.name), ticket)

    def _take_back(self, contents: Contents) -> None:
        """The daemon does not want it, for good: it is as it was before, and may be logged elsewhere."""
        self._submission = self.place = None
        contents.sealed = self._was_final
        contents.spool.take_back()

    def _header(self, sender: Sender, aliases: Sequence[str], tags: Sequence[str]) -> pb.LogHeader:
        self.metadata = plain_metadata(self.metadata)
        self.aliases = list(dict.fromkeys(check_aliases([*self.aliases, *aliases])))
        self.tags = list(dict.fromkeys([*self.tags, *tags]))
        self._seen = self._now()
        draft = sender.draft or Draft("", "")
        base = self.contents.base if self.contents else None
        return pb.LogHeader(
            store=sender.store,
            project=sender.project,
            name=self.name,
            type=self.type,
            description=self.description,
            metadata=metadata_bytes(self.metadata),
            aliases=self.aliases,
            tags=self.tags,
            run=sender.run,
            inputs=list(sender.inputs),
            offline=sender.offline,
            power=sender.power,
            client=f"wherry {VERSION}",
            kind=draft.kind,
            distributed_id=draft.distributed_id,
            newest=draft.newest,
            base=base.message() if base else None,
        )

    def _was_sent_by(self, sender: Sender, aliases: Sequence[str]) -> bool:
        sent = self._submission.header if self._submission else None
        return bool(sent and sent.run.id == sender.run.id and set(aliases) <= set(sent.aliases))

    def _link(self, sender: Sender, aliases: Sequence[str]) -> None:
        assert self._ticket is not None and self.place is not None
        if self.place.home != sender.home:
            raise UsageError(
                f"{self.label} was logged in {self.place.home}; this run's home is {sender.home}."
            )
        if self.is_upsert and not set(aliases) <= set(self.aliases):
            raise ArtifactStateError(
                f"{self.label} was upserted before; its aliases went with it.",
                hint="finish_artifact(aliases=…) gives further ones.",
            )
        request = pb.LinkRequest(
            request_id=self._ticket.request_id, run=sender.run, aliases=aliases
        )
        connect(sender.home).unary("Link", request, pb.LinkReply)
        self._ticket.ask_anew()  # the daemon has aliases to set
        self.aliases[:] = dict.fromkeys([*self.aliases, *aliases])
        if self._seen is not None:  # given by a log, and not by saving
            seen = dict.fromkeys([*self._seen.aliases, *aliases])
            self._seen = self._seen._replace(aliases=tuple(seen))

    # ── afterwards ─────────────────────────────────────────────────────────────────────────────
    @property
    def label(self) -> str:
        """Names the artifact in messages."""
        project = self.place.project if self.place else ""
        return f"{project}/{self.name}" if project else self.name

    def owner(self) -> tuple[str | None, str]:
        """Give entity and project. Raises ``ArtifactNotLoggedError``."""
        if self.place is not None:
            return self.place.entity, self.place.project
        if self._stored is not None:
            return self._stored.record.run.entity or None, self._stored.record.project
        if self.nowhere:
            return None, self.nowhere_project
        raise ArtifactNotLoggedError(
            f"{self.label} belongs to no project before it is logged.",
            hint="run.log_artifact(artifact)",
        )

    def where(self) -> Place:
        """Tell where all versions of its name are. Raises ``ArtifactNotLoggedError``."""
        if self._stored is not None:
            record = self._stored.record
            return Place(self._stored.home, record.store, record.project, self.name)
        if self.place is None:
            raise ArtifactNotLoggedError(
                f"{self.label} was not logged, or in disabled mode.",
                hint="run.log_artifact(artifact)",
            )
        return Place(self.place.home, self.place.store, self.place.project, self.name)

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when it is a version; raises as ``Ticket.wait``, and ``ArtifactNotLoggedError``."""
        if self._ticket is not None:
            self._ticket.wait(timeout_s)
        elif not self.is_logged:
            raise ArtifactNotLoggedError(
                f"{self.label} was not logged, so there is nothing to wait for.",
                hint="Log it first: run.log_artifact(artifact).",
            )

    def version(self) -> str:
        """Give ``v3``.

        Raises:
            ArtifactNotLoggedError: it is not committed yet.
            Offline: and will not be before ``wherry sync``.
            RequestFailed and whatever the request failed with.
        """
        if self.nowhere:
            return self.nowhere
        if self._stored is not None:
            return f"v{self._stored.record.version}"
        if self.is_upsert:
            assert self.place is not None and self.place.draft is not None
            raise ArtifactNotLoggedError(
                f"{self.label} is a part of the draft {self.place.draft.distributed_id!r}.",
                hint="finish_artifact() makes the draft a version; find it with use_artifact().",
            )
        state = self._ticket.committed() if self._ticket else None
        if state is not None:
            return f"v{state.version}"
        raise ArtifactNotLoggedError(
            f"{self.label} has no version before it is committed.",
            hint="artifact.wait() returns when it is."
            if self._ticket
            else "Log it first, then call wait(): run.log_artifact(artifact).wait()",
        )

    def version_if_known(self) -> str | None:
        """Give ``v3``, or None while there is no version, whatever the reason."""
        try:
            return self.version() if self.is_logged else None
        except WherryError:
            return None

    def stored(self) -> StoredVersion:
        """Give the version as the store has it; waits until it is committed."""
        if self._stored is None:
            self.wait()
            if self.place is None:
                raise ArtifactStateError(f"{self.label} was logged in disabled mode.")
            self._become(stored.find(self.where(), self.version()))
        assert self._stored is not None
        return self._stored

    def stored_if_known(self) -> StoredVersion | None:
        """Give the version as the store has it if it is committed."""
        if self._stored is None and (self.nowhere or self.version_if_known() is None):
            return None
        return self.stored()

    def look_at_draft(self) -> None:
        """Take over what the draft has become that this finishes, if it has become a version."""
        if self._draft_kind() == "finish":
            self.stored_if_known()

    def save(self) -> None:
        """Write what was changed since into the store; waits until it is a version.

        Raises as ``stored.edit``, ``version``; ``BadMetadata``. Where it fails, it can be saved again.
        """
        if self.nowhere:
            return
        plain_metadata(self.metadata)
        found = self._versioned()
        assert self._seen is not None
        now = self._now()
        changes = edits.changes(self._seen, now)
        if changes is not None:
            saved = stored.edit(found, changes)
            self._seen = now  # what was changed during the call is kept for the next one
            self._become(saved)

    def delete(self, *, with_aliases: bool) -> None:
        """Delete the version; raises as ``stored.delete``, ``version``."""
        if not self.nowhere:
            stored.delete(self._versioned(), with_aliases=with_aliases)
        self.is_deleted = True

    def check_there(self) -> None:
        """Raise ``ArtifactStateError`` after it was deleted."""
        if self.is_deleted:
            raise ArtifactStateError(
                f"{self.label}:{self.version()} was deleted.", hint="Make a new Artifact."
            )

    def _versioned(self) -> StoredVersion:
        """As ``stored``; what is a part of a draft is never a version, however long that is waited for."""
        if self.is_upsert:
            self.version()
        return self.stored()

    def _now(self) -> edits.Seen:
        return edits.seen(self.description, self.metadata, self.tags, self.aliases)

    def _become(self, found: StoredVersion) -> None:
        """Take over what the store has, but for what the user has changed since it was sent or read.

        Lists and metadata stay the same objects: somebody may hold them, and change them later.
        """
        record, now = found.record, self._now()
        before = self._seen or now
        description = record.description if record.HasField("description") else None
        there = edits.seen(description, found.metadata, record.tags, record.aliases)
        self._stored, self._seen = found, there
        if now.description == before.description:
            self.description = description
        if now.metadata != there.metadata:
            merged = edits.merged_metadata(before, self.metadata, found.metadata)
            self.metadata.clear()
            self.metadata.update(merged)
        self.tags[:] = edits.merged(before.tags, now.tags, there.tags)
        self.aliases[:] = edits.merged(before.aliases, now.aliases, there.aliases)


def check_aliases(aliases: Sequence[str] | str | None) -> list[str]:
    """Check what ``aliases=`` says; ``latest`` and empty strings add nothing. Raises ``BadName``."""
    given = [aliases] if isinstance(aliases, str) else list(aliases or ())
    return [names.check_alias(alias) for alias in given if alias not in ("", "latest")]
