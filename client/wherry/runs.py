"""``wherry.Run``: one stretch of a user's program. Owns: what logging and using mean in a run.

Does not own: how a run begins (``starting``), an artifact's way (``life``), waiting at the end
(``finishing``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from wherry import active, exits, finishing, recent, references, stored
from wherry import messages as pb
from wherry.artifact import Artifact, StoredArtifact
from wherry.ending import Ending
from wherry.errors import (
    ArtifactStateError,
    CommError,
    MissingDistributedId,
    NotFoundError,
    Offline,
    UsageError,
    WherryError,
)
from wherry.life import Draft, Sender, check_aliases
from wherry.logged import Logged
from wherry.notices import say, warn_of_no_registry, warn_once
from wherry.reading import StrPath
from wherry.run_facts import Given, RunFacts
from wherry.run_notes import RunNotes
from wherry.source_code import Choice, artifact_name, files_below, is_nothing, is_source
from wherry.wire import names
from wherry.wire.settings import Settings

_MAX_NAME = names.MAX_NAME_CHARACTERS
_UNSAFE = re.compile(r"[/:\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Run(RunFacts):
    """A run; ``wherry.init`` makes it. As a context manager it finishes at the end.

    Args:
        settings: those that count.
        given: what else was said.
        config: of the user's.
    """

    def __init__(self, settings: Settings, given: Given, config: object) -> None:
        super().__init__(settings, given, config)
        self._inputs: dict[str, None] = {}
        self._notes = RunNotes(
            settings.home,
            settings.store,
            self._as_sent,
            given.notes,
            given.tags,
            self.config,
            is_offline=self.offline,
        )
        self._finished = False
        self._logged = Logged()
        self._lasts = finishing.home_lasts(settings.home_lasts, os.environ)

    def __repr__(self) -> str:
        return f"<Run {self.id!r} in project {self.project!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self.pid:
            return  # the block is the parent's, from whom this process was forked
        if error is None:
            self.finish(0)
        else:
            self._finish_beside(error)

    # ── logging and using ──────────────────────────────────────────────────────────────────────
    def log_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 (W&B's name)
        aliases: Sequence[str] | str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Artifact:
        """Log an artifact: on return it is safe and has its place in line.

        Args:
            artifact_or_path: an ``Artifact``; or a file, a folder or a URI to make one from. A version
                that was found stays that version, and gets the aliases and tags at once.
            name: of what is made from a path; ``run-<id>-<base name>`` by default.
            type: likewise; ``unspecified`` by default.
            aliases: names for this version; ``latest`` it is anyway.
            tags: free words.

        Returns:
            The artifact. Its ``wait()`` returns when it is in the store.

        Raises:
            TypeTaken: the name belongs to another type.
            BadName: an alias is none.
            UsageError: a version that was found lies in another project or store.
            SpoolFull, QueueLocked: nothing was logged; logging the same Artifact again is safe.
            CommError, WaitTimeoutError: no daemon, or its answer got lost; then whether it was logged is
                not known; logging the same Artifact again is safe, and logs it once.
        """
        return self._hand_over(artifact_or_path, name, type, aliases, tags)

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 (W&B's name)
        aliases: Sequence[str] | str | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Add an artifact's files to a draft, which ``finish_artifact`` makes a version.

        Any number of runs, on any number of machines, add to one draft. On return the request is safe;
        ``finish()``, and leaving ``with``, wait until it is in the draft for all to see.

        Args:
            artifact_or_path: as for ``log_artifact``, and so are ``name``, ``type`` and ``aliases``.
            name: see ``artifact_or_path``.
            type: see ``artifact_or_path``.
            aliases: for the version that the draft becomes.
            distributed_id: names the draft, beside project and artifact; the run's group by default.

        Returns:
            The artifact. Its ``wait()`` returns when it is in the draft; it is no version.

        Raises:
            MissingDistributedId: a ``TypeError``: no group, and no id.
            ArtifactStateError: this Artifact was handed over before, for something else.
            TypeTaken, BadName, SpoolFull, QueueLocked, CommError: as ``log_artifact``.
        """
        draft = Draft("upsert", self._draft_id("upsert_artifact", distributed_id))
        return self._hand_over(artifact_or_path, name, type, aliases, None, draft)

    def finish_artifact(
        self,
        artifact_or_path: Artifact | StrPath,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 (W&B's name)
        aliases: Sequence[str] | str | None = None,
        distributed_id: str | None = None,
        *,
        on_conflict: str = "fail",
    ) -> Artifact:
        """Make a draft a version: what all runs have added, and what this artifact has.

        Its own files, metadata and description have the last word. Once a draft is finished nothing can
        be added; finishing it again gives the same version.

        Args:
            artifact_or_path: as for ``upsert_artifact``, and so are the others.
            name: see ``artifact_or_path``.
            type: see ``artifact_or_path``.
            aliases: see ``artifact_or_path``.
            distributed_id: see ``artifact_or_path``.
            on_conflict: what happens where two runs have added other bytes at one path: ``fail``, or
                ``newest``: what was added later counts.

        Returns:
            The artifact; ``wait()`` returns when it is the version.

        Raises:
            UsageError: ``on_conflict`` is neither of them.
            MissingDistributedId, ArtifactStateError, and as ``log_artifact``.
        """
        if on_conflict not in ("fail", "newest"):
            raise UsageError(f"on_conflict is 'fail' or 'newest', not {on_conflict!r}.")
        id_ = self._draft_id("finish_artifact", distributed_id)
        draft = Draft("finish", id_, on_conflict == "newest")
        return self._hand_over(artifact_or_path, name, type, aliases, None, draft)

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,  # noqa: A002 (W&B's name)
        aliases: Sequence[str] | str | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Find an artifact and note that this run uses it; waits for one that was just logged.

        Args:
            artifact_or_name: ``name:alias``, ``project/name:v3``, or an ``Artifact``; one that was
                not logged yet is logged.
            type: what it has to be of.
            aliases: for an ``Artifact`` that is logged by this.
            use_as: accepted, without effect.

        Raises:
            NotFoundError: no such artifact, version or alias.
            TypeTaken: it is of another type.
            Offline: offline mode holds it.
        """
        del use_as
        self._check_active()
        if isinstance(artifact_or_name, Artifact):
            return self._use_object(artifact_or_name, type, aliases)
        return self._use_name(artifact_or_name, type)

    def log_model(
        self, path: StrPath, name: str | None = None, aliases: Sequence[str] | None = None
    ) -> Artifact:
        """Log a file or folder as an artifact of type ``model``."""
        return self.log_artifact(path, name, "model", aliases)

    def log_code(
        self,
        root: str | None = ".",
        name: str | None = None,
        include_fn: Choice = is_source,
        exclude_fn: Choice = is_nothing,
    ) -> Artifact | None:
        """Log the program's source as an artifact of type ``code``; the same source is the same version.

        Version control, virtual environments, ``node_modules``, Wherry's home and folder stores are left
        out whatever is chosen.

        Args:
            root: the folder; None logs nothing.
            name: ``source-<project>-<path of the program>`` by default.
            include_fn: takes a file's path, or its path and the root; by default ``*.py``,
                ``requirements.txt`` and Dockerfiles are chosen.
            exclude_fn: likewise; what it leaves out is left out.

        Returns:
            The artifact, None where no file was chosen.

        Raises:
            As ``add_file`` and ``log_artifact``.
        """
        artifact = Artifact(name or artifact_name(self.project), "code")
        if not self.disabled:
            top = os.path.abspath(root) if root is not None else ""
            found = files_below(top, include_fn, exclude_fn, str(self.settings.home))
            for path in found if top else ():
                artifact.add_file(path, os.path.relpath(path, top))
            if not artifact.manifest.entries:
                warn_once(f"wherry: log_code() found no source in {root}, and logs nothing.")
                return None
        return self.log_artifact(artifact)

    def link_artifact(
        self, artifact: Artifact, target_path: str, aliases: Sequence[str] | None = None
    ) -> Artifact:
        """Log an artifact that was not logged; link it nowhere, and warn of that once.

        Args:
            artifact: an artifact.
            target_path: accepted, without effect, as there is no registry; so is ``aliases``.
            aliases: see ``target_path``.
        """
        del target_path, aliases
        warn_of_no_registry("Run.link_artifact()")
        return artifact if artifact.is_logged else self.log_artifact(artifact)

    def link_model(
        self,
        path: StrPath,
        registered_model_name: str,
        name: str | None = None,
        aliases: Sequence[str] | None = None,
    ) -> Artifact:
        """Log a model as ``log_model`` does; link it nowhere, and warn of that once.

        Args:
            path: a file or folder.
            registered_model_name: accepted, without effect; so is ``aliases``.
            name: ``run-<id>-<base name>`` by default.
            aliases: see ``registered_model_name``.
        """
        del registered_model_name, aliases
        warn_of_no_registry("Run.link_model()")
        return self.log_model(path, name)

    def use_model(self, name: str) -> str:
        """Download a model; return its file, or the folder where it has several."""
        artifact = self.use_artifact(name)
        folder = artifact.download()
        paths = list(artifact.manifest.entries)
        return os.path.join(folder, paths[0]) if len(paths) == 1 else folder

    def log(self, data: Mapping[str, object], *_: object, **__: object) -> None:
        """Accept metrics and drop them: they are not Wherry's."""
        active.log(data)

    # ── the end ────────────────────────────────────────────────────────────────────────────────
    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run; in ``wait`` mode return when its artifacts are in the store.

        Waiting ends after 60 s without progress and at Ctrl-C: the daemon goes on. Where the home
        may not outlive the script it ends only after ``WHERRY_FINISH_TIMEOUT`` or at Ctrl-C. What the run
        has added to drafts is waited for in every mode.

        Args:
            exit_code: stands in the run's record; 0 means that all went well.
            quiet: accepted, without effect.

        Raises:
            NotCommitted: the home may not outlive the script, and something is not in the store.
            UpsertNotVisible: what the run has added to a draft is not there.
        """
        del quiet
        ending = self.end(exit_code)
        if ending is not None:
            finishing.finish([ending])

    def end(self, exit_code: int | None = None) -> Ending | None:
        """Take no more artifacts; give what is to be waited for, None where nothing is."""
        if self._finished:
            return None
        self._finished = True
        active.leave(self)
        logged, settings = self._logged, self.settings
        if self.disabled or not (logged.anything or logged.calls() or self._notes.is_known):
            return None
        # A forked child ends its own part in the run: the run itself goes on.
        record = self._notes.ended(exit_code) if os.getpid() == self.pid else None
        detached = settings.finish != "wait"
        if self.offline or (detached and not logged.upserts):
            alone = Ending(settings.home, None, self.id, logged, detached, record)
            finishing.record_ends(settings.home, [alone], 0.0)
            return None
        timeout_s = None if self._lasts else settings.finish_timeout
        return Ending(settings.home, timeout_s, self.id, logged, detached, record)

    def _finish_beside(self, error: BaseException) -> None:
        """Finish while an exception is on its way: it is the user's, and stays the one that is seen."""
        try:
            self.finish(1)
        except Exception as failure:  # noqa: BLE001 (whatever it is, it may not hide the user's)
            say(f"{type(failure).__name__}: {failure}")
            if not self._lasts:
                exits.note_failure(error)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────
    def _check_active(self) -> None:
        if self._finished:
            raise ArtifactStateError(
                f"The run {self.id} is finished.", hint="Call wherry.init() for a new one."
            )

    def _hand_over(
        self,
        given: Artifact | StrPath,
        name: str | None,
        type_: str | None,
        aliases: Sequence[str] | str | None,
        tags: Sequence[str] | None,
        draft: Draft | None = None,
    ) -> Artifact:
        label = given.base_name if isinstance(given, Artifact) else os.fsdecode(given)
        with self._logged.call(label):
            self._check_active()
            checked, words = check_aliases(aliases), _check_tags(tags)
            artifact = self._artifact_of(given, name, type_)
            if self.disabled:
                artifact.pretend(self.project)
            else:
                self._check_active()  # capturing may have taken long
                is_upsert = draft is not None and draft.kind == "upsert"
                self._logged.note(f"{self.project}/{artifact.base_name}", upsert=is_upsert)
                artifact.log_by(self._sender(draft), checked, words)
                is_found = artifact.is_found
                self._notes.logged(f"{artifact.project}/{artifact.name}" if is_found else "")
            return artifact

    def _draft_id(self, call: str, distributed_id: str | None) -> str:
        chosen = distributed_id or self.group
        if not chosen:
            raise MissingDistributedId(
                f"{call}() needs a group or a distributed_id.",
                hint="Call wherry.init(group=…), or give distributed_id.",
            )
        return names.check_text("distributed_id", chosen) or chosen

    def _as_sent(self) -> pb.Run:
        return pb.Run(
            id=self.id,
            name=self._given.name or "",
            group=self.group or "",
            job_type=self.job_type or "",
            project=self.project,
            entity=self.entity or "",
        )

    def _sender(self, draft: Draft | None = None) -> Sender:
        settings = self.settings
        return Sender(
            home=settings.home,
            store=settings.store,
            project=settings.project,
            entity=self.entity,
            run=self._as_sent(),
            inputs=list(self._inputs),
            offline=self.offline,
            power=settings.durability == "power",
            draft=draft,
        )

    def _artifact_of(
        self, given: Artifact | StrPath, name: str | None, type_: str | None
    ) -> Artifact:
        if isinstance(given, Artifact):
            return given
        path = os.fsdecode(given)
        base = os.path.basename(os.path.normpath(path))
        artifact = Artifact(name or self._name_for(base), type_ or "unspecified")
        if references.is_uri(path):
            artifact.add_reference(path)
        elif os.path.isdir(path):
            artifact.add_dir(path)
        else:
            artifact.add_file(path)
        return artifact

    def _name_for(self, base: str) -> str:
        name = _UNSAFE.sub("_", f"run-{self.id}-{base}")[:_MAX_NAME]
        while len(names.encode_segment(name)) > names.MAX_SEGMENT_BYTES:
            name = name[:-1]
        return name

    def _use_object(
        self, artifact: Artifact, type_: str | None, aliases: Sequence[str] | str | None
    ) -> Artifact:
        if type_ is not None and artifact.type != type_:
            raise UsageError(f"{artifact!r} is not of type {type_!r}.")
        if not artifact.is_logged:
            self.log_artifact(artifact, aliases=aliases)
        artifact.wait()
        if not self.disabled:
            _ = artifact.version  # a part of a draft has none
        self._note_input(artifact)
        return artifact

    def _use_name(self, text: str, type_: str | None) -> Artifact:
        ref = names.parse_artifact_ref(text)
        if self.disabled:
            artifact = Artifact(ref.name, type_ or "unspecified")
            version = ref.version if names.is_version(ref.version) else "v0"
            artifact.pretend(ref.project or self.project, version)
            return artifact
        settings, project = self.settings, ref.project or self.project
        place = stored.Place(settings.home, settings.store, project, ref.name)
        self._wait_for_own(place)
        artifact = StoredArtifact(self._find(place, ref.version, type_))
        self._note_input(artifact)
        return artifact

    def _find(self, place: stored.Place, version: str, type_: str | None) -> stored.StoredVersion:
        """Find a version; offline, what other programs of this home have logged is held, too."""
        is_held = self.offline and stored.is_held(place)
        held = Offline(
            f"{place.project}/{place.name} is held by offline mode.",
            hint="Send it with: wherry sync",
        )
        if is_held and version == "latest":
            raise held
        try:
            return stored.find(place, version, type_)
        except NotFoundError as error:
            if is_held:
                raise held from error
            raise

    def _wait_for_own(self, place: stored.Place) -> None:
        ticket = recent.find(place)
        if ticket is None:
            return
        try:
            ticket.wait(None)
        except NotFoundError:
            return  # the daemon has forgotten it
        except (Offline, CommError):
            raise
        except WherryError:
            return  # it failed, so what is in the store is what there is

    def _note_input(self, artifact: Artifact) -> None:
        if self.disabled or artifact.is_draft():
            return
        name = f"{artifact.project}/{artifact.name}"
        if name not in self._inputs:
            self._notes.uses(name)
            self._inputs[name] = None


def _check_tags(tags: Sequence[str] | None) -> list[str]:
    words = [tags] if isinstance(tags, str) else list(tags or ())
    return [names.check_name("tag", word) for word in words]
