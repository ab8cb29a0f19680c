"""A callback for the Trainer of Lightning, as ``lightning.pytorch`` or as ``pytorch_lightning``.

Owns: seeing that a ``ModelCheckpoint`` has written a file, and what is known of it. Does not own: logging it
(``checkpoints``).

No hook of a callback is told that a file was written: ``on_save_checkpoint`` comes before it. ModelCheckpoint
writes in hooks, and a step passes between two writes, before which nothing that it wrote last is removed. So
this callback looks, in each hook in which files may be written or after it, for files that it has not seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, SupportsFloat

from wherry.integrations import frameworks
from wherry.integrations.checkpoints import Checkpoint, CheckpointLog
from wherry.notices import warn_once

if TYPE_CHECKING:
    Callback = object
else:
    Callback = frameworks.load(
        ("lightning.pytorch.callbacks", "pytorch_lightning.callbacks"),
        "wherry.integrations.lightning",
        "lightning",
    ).Callback


class _Writer(Protocol):
    """What is read of ``ModelCheckpoint``."""

    monitor: str | None
    mode: str
    save_weights_only: bool
    best_model_path: str
    last_model_path: str
    current_score: object  # another one after each save for its score's sake
    best_k_models: Mapping[str, SupportsFloat]


class _Trainer(Protocol):
    """What is read of ``Trainer``, and its list of callbacks, which is changed."""

    callbacks: list[object]
    checkpoint_callbacks: Sequence[_Writer]
    current_epoch: int
    global_step: int
    is_global_zero: bool


class _Stamp(NamedTuple):
    """Tells a file from another, and from itself after it was written anew."""

    changed_ns: int
    device: int
    inode: int
    size: int


class WherryCallback(Callback):
    """Logs each checkpoint that a ``ModelCheckpoint`` writes as a version of one artifact, of type ``model``.

    ``Trainer(callbacks=[ModelCheckpoint(monitor="val_loss"), WherryCallback("my-model")])``. In the artifact
    the checkpoint is ``model.ckpt``. The best by the first ModelCheckpoint that monitors something has the
    alias ``best``. Only global rank zero logs.

    Args:
        name: the artifact's; ``model-<run's id>`` by default.
        project: of the run that is made where none is active, and finished with the training.
        metadata: goes into each version, beside ``epoch``, ``step``, ``file``, ``monitor``, ``mode`` and
            ``score``, by which the ModelCheckpoint has ranked it.
        policy: as for ``Artifact.add_file``; ``immutable`` links instead of copying.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        project: str | None = None,
        metadata: Mapping[str, object] | None = None,
        policy: str = "mutable",
    ) -> None:
        super().__init__()
        self._checkpoints = CheckpointLog(name, project, metadata, policy)
        self._seen: set[_Stamp] = set()
        self._scores: dict[int, object] = {}  # the last ``current_score`` by the writer's id
        self._logged_at: dict[int, tuple[int, int]] = {}  # likewise
        self._saved_at = self._trained_to = (0, 0)  # epoch and step

    def setup(self, trainer: _Trainer, pl_module: object, stage: str) -> None:
        """Come after the ModelCheckpoints, which Lightning puts last."""
        del pl_module
        if stage == "fit":  # a new list: Lightning is going through the old one
            trainer.callbacks = [each for each in trainer.callbacks if each is not self] + [self]

    def on_train_start(self, trainer: _Trainer, pl_module: object) -> None:
        """Find the run that logs, or make one; what is there by now was not written by this training."""
        del pl_module
        if trainer.is_global_zero:
            for writer in _writers(trainer):
                self._new(writer)
            self._checkpoints.begin()

    def on_save_checkpoint(self, trainer: _Trainer, pl_module: object, checkpoint: object) -> None:
        """Note what is about to be written; not called for weights alone."""
        del pl_module, checkpoint
        self._saved_at = (trainer.current_epoch, trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: _Trainer,
        pl_module: object,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Look; and note where this is: an epoch's number goes up before what its end writes is seen."""
        del pl_module, outputs, batch, batch_idx
        self._trained_to = (trainer.current_epoch, trainer.global_step)
        self._look(trainer, is_quick=True)

    def on_train_epoch_start(self, trainer: _Trainer, pl_module: object) -> None:
        """Look for what was written at the end of the epoch before."""
        del pl_module
        self._look(trainer)

    def on_validation_end(self, trainer: _Trainer, pl_module: object) -> None:
        """Look."""
        del pl_module
        self._look(trainer)

    def on_train_end(self, trainer: _Trainer, pl_module: object) -> None:
        """Look."""
        del pl_module
        self._look(trainer)

    def on_exception(self, trainer: _Trainer, pl_module: object, exception: BaseException) -> None:
        """Look; the end of the script waits for it."""
        del pl_module, exception
        self._look(trainer)

    def on_fit_end(self, trainer: _Trainer, pl_module: object) -> None:
        """Look for what was written in the background; finish the run, if it is not the user's."""
        del pl_module
        self._look(trainer)
        self._checkpoints.end()

    def _look(self, trainer: _Trainer, *, is_quick: bool = False) -> None:
        if not trainer.is_global_zero:
            return
        writers = _writers(trainer)
        ranking = next((writer for writer in writers if writer.monitor), None)
        for writer in writers:
            for path in self._new(writer, is_quick=is_quick):
                self._log(writer, path, is_ranked=writer is ranking)

    def _log(self, writer: _Writer, path: str, *, is_ranked: bool) -> None:
        at = self._trained_to if writer.save_weights_only else self._saved_at
        if path == writer.last_model_path and at == self._logged_at.get(id(writer)):
            return  # a copy of what was logged just now
        self._logged_at[id(writer)] = at
        metadata: dict[str, object] = {
            "epoch": at[0],
            "step": at[1],
            "file": os.path.basename(path),
        }
        metadata |= _score(writer, path)
        entry = f"model{os.path.splitext(path)[1]}"
        is_best = is_ranked and path == writer.best_model_path
        self._checkpoints.log(Checkpoint(path, entry, metadata, is_best))

    def _new(self, writer: _Writer, *, is_quick: bool = False) -> list[str]:
        """List what was not there at the last look, oldest first, "last" last.

        Args:
            is_quick: leave out those that nothing was written to; there may be thousands.
        """
        may_be_any = not is_quick or writer.current_score is not self._scores.get(id(writer))
        self._scores[id(writer)] = writer.current_score
        paths = [writer.last_model_path, writer.best_model_path]
        found = _stamps([*paths, *writer.best_k_models] if may_be_any else paths)
        fresh = sorted(found.keys() - self._seen)
        self._seen.update(fresh)
        new = [found[stamp] for stamp in fresh]
        return sorted(new, key=lambda path: path == writer.last_model_path)


def _writers(trainer: _Trainer) -> list[_Writer]:
    """List the ModelCheckpoints; other callbacks that write checkpoints do not say where."""
    return [each for each in trainer.checkpoint_callbacks if hasattr(each, "best_model_path")]


def _stamps(paths: Iterable[str]) -> dict[_Stamp, str]:
    """Look at what is there; of several names of one file the last counts."""
    found = {}
    for path in filter(None, paths):
        if "://" in path:
            scheme = path.partition("://")[0]
            warn_once(
                f"wherry: checkpoints on {scheme}:// are not on this machine, and are not logged."
            )
            continue
        try:
            seen = os.stat(path)
        except OSError:
            continue  # removed by now, or written in the background and not there yet
        found[_Stamp(seen.st_mtime_ns, seen.st_dev, seen.st_ino, seen.st_size)] = path
    return found


def _score(writer: _Writer, path: str) -> dict[str, object]:
    if not writer.monitor:
        return {}
    score = writer.best_k_models.get(path)
    known: dict[str, object] = {"monitor": writer.monitor, "mode": writer.mode}
    return known if score is None else {**known, "score": float(score)}
