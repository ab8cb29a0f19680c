"""The checkpoints of a training as versions of one artifact: what all integrations share.

Owns: which run logs them, that no failure ends a training, who waits at the end. Does not own: when a
trainer has written one, and what is known of it (``lightning``, ``transformers``).

A checkpoint is safe when ``log`` has returned: the trainer may overwrite or delete it at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from wherry import active
from wherry.artifact import Artifact
from wherry.errors import FileChanged, UsageError, WherryError
from wherry.notices import say
from wherry.runs import Run
from wherry.starting import init
from wherry.wire import names
from wherry.wire.canonical import plain_metadata

# A training's other processes may just be writing their parts into the folder.
_TRIES = 3


class Checkpoint(NamedTuple):
    """What a trainer has written."""

    path: str  # a file or a folder
    entry: str | None  # its path in the artifact; None: a folder's files, under their own names
    metadata: dict[str, object]  # what is not known is left out
    is_best: bool


class CheckpointLog:
    """Logs one training's checkpoints after the other. Nothing happens in a process that did not ``begin``.

    It may be pickled before that.

    Args:
        name: the artifact's; ``model-<run's id>`` where none is given.
        project: of the run that is made where none is active.
        metadata: goes into each version beside what the trainer knows.
        policy: as for ``Artifact.add_file``.

    Raises:
        BadName, BadMetadata, UsageError: before any training is done.
    """

    def __init__(
        self,
        name: str | None,
        project: str | None,
        metadata: Mapping[str, object] | None,
        policy: str,
    ) -> None:
        if policy not in ("mutable", "immutable"):
            raise UsageError(
                f"There is no policy {policy!r}.", hint="Use 'mutable' or 'immutable'."
            )
        self._name = names.check_name("artifact", name) if name is not None else None
        self._project = names.check_name("project", project) if project is not None else None
        self._metadata = plain_metadata(metadata)
        self._policy = policy
        self._run: Run | None = None
        self._is_own = False
        self._captured: list[tuple[Artifact, Checkpoint]] = []  # and not logged yet
        self._failed: list[str] = []

    def begin(self) -> None:
        """Log by the active run from now on, or by one of our own. Raises as ``wherry.init``."""
        if self._is_own and self._run is not None:
            self._run.finish()  # the training before this one ended by an exception
        self._captured, self._failed = [], []
        current = active.current()
        self._is_own = current is None
        self._run = current or init(project=self._project, job_type="train")

    def log(self, checkpoint: Checkpoint) -> None:
        """Capture a checkpoint and log it. What goes wrong is told, and does not end the training."""
        if self._run is None:
            return
        try:
            artifact = self._artifact(self._run, checkpoint)
        except WherryError as error:
            self._give_up(checkpoint, error)
        else:
            self._captured.append((artifact, checkpoint))
            self._send(self._run)

    def end(self) -> None:
        """Finish the run if it is our own, which waits as ``Run.finish`` does; leave the user's alone."""
        run, self._run = self._run, None
        if run is None:
            return
        self._send(run)
        lost = self._failed + [os.path.basename(each.path) for _, each in self._captured]
        self._captured, self._failed = [], []
        if lost:
            say(
                f"not logged: {', '.join(lost)}. What the trainer has kept of them is where it was."
            )
        if self._is_own:
            run.finish()

    def _artifact(self, run: Run, checkpoint: Checkpoint) -> Artifact:
        metadata = {**self._metadata, **checkpoint.metadata}
        artifact = Artifact(self._name or f"model-{run.id}", "model", metadata=metadata)
        add = artifact.add_dir if os.path.isdir(checkpoint.path) else artifact.add_file
        for left in reversed(range(_TRIES)):
            try:
                add(checkpoint.path, name=checkpoint.entry, policy=self._policy)
                break
            except FileChanged:
                if not left:
                    raise
        return artifact

    def _send(self, run: Run) -> None:
        """Log what is captured, in order; what fails for now is tried again with the next checkpoint."""
        while self._captured:
            artifact, checkpoint = self._captured[0]
            try:
                run.log_artifact(artifact, aliases=["best"] if checkpoint.is_best else None)
            except UsageError as error:
                self._give_up(checkpoint, error)
            except WherryError as error:
                say(f"{checkpoint.path} is not logged yet: {error}")
                return
            del self._captured[0]

    def _give_up(self, checkpoint: Checkpoint, error: WherryError) -> None:
        self._failed.append(os.path.basename(checkpoint.path))
        say(f"{checkpoint.path} is not logged: {error}")
