"""A callback for the Trainer of Hugging Face's transformers.

Owns: what the Trainer's state says of a checkpoint. Does not own: logging it (``checkpoints``).

The Trainer calls ``on_save`` in each process when a checkpoint's folder is written, and after it has removed
older ones by ``save_total_limit`` (transformers' documentation, "Callbacks").
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from glob import escape, glob
from typing import TYPE_CHECKING, Protocol

from wherry.integrations import frameworks
from wherry.integrations.checkpoints import Checkpoint, CheckpointLog

if TYPE_CHECKING:
    TrainerCallback = object
else:
    TrainerCallback = frameworks.load(
        ("transformers",), "wherry.integrations.transformers", "transformers"
    ).TrainerCallback


class _Arguments(Protocol):
    """What is read of ``TrainingArguments``."""

    output_dir: str
    metric_for_best_model: str | None
    greater_is_better: bool | None


class _State(Protocol):
    """What is read of ``TrainerState``."""

    epoch: float | None
    global_step: int
    log_history: Sequence[Mapping[str, float]]
    best_model_checkpoint: str | None
    is_world_process_zero: bool


class WherryCallback(TrainerCallback):
    """Logs each checkpoint that the Trainer writes as a version of one artifact, of type ``model``.

    ``Trainer(..., callbacks=[WherryCallback("my-model")])``. The best by ``metric_for_best_model`` has the
    alias ``best``. Only the main process logs.

    Args:
        name: the artifact's; ``model-<run's id>`` by default.
        project: of the run that is made where none is active, and finished with the training.
        metadata: goes into each version, beside ``epoch``, ``step``, ``monitor``, ``mode`` and ``score``.
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
        self._last = ""

    def on_train_begin(
        self, args: _Arguments, state: _State, control: object, **kwargs: object
    ) -> None:
        """Find the run that logs, or make one."""
        del args, control, kwargs
        self._last = ""
        if state.is_world_process_zero:
            self._checkpoints.begin()

    def on_save(self, args: _Arguments, state: _State, control: object, **kwargs: object) -> None:
        """Log what was just written, in the process that began to."""
        del control, kwargs
        path = _folder(args.output_dir, state.global_step)
        if path != self._last:  # two reasons to save at one step are one checkpoint
            self._last = path
            self._checkpoints.log(_checkpoint(path, args, state))

    def on_train_end(
        self, args: _Arguments, state: _State, control: object, **kwargs: object
    ) -> None:
        """Finish the run, if it is not the user's."""
        del args, state, control, kwargs
        self._checkpoints.end()


def _folder(output_dir: str, step: int) -> str:
    """Find a step's folder: in a search for hyperparameters each trial has one of its own around it."""
    name = f"checkpoint-{step}"
    plain = os.path.join(output_dir, name)
    if os.path.isdir(plain):
        return plain
    trials = glob(os.path.join(escape(output_dir), "*", name))
    return max(trials, key=os.path.getmtime, default=plain)


def _checkpoint(path: str, args: _Arguments, state: _State) -> Checkpoint:
    best = state.best_model_checkpoint
    metadata: dict[str, object] = {"epoch": state.epoch, "step": state.global_step}
    if args.metric_for_best_model:
        monitor = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        metadata["monitor"] = monitor
        metadata["mode"] = "max" if args.greater_is_better else "min"
        metadata |= _score(state, monitor)
    is_best = best is not None and os.path.basename(best) == os.path.basename(path)
    return Checkpoint(path, None, metadata, is_best)


def _score(state: _State, monitor: str) -> dict[str, object]:
    """Find what the evaluation at this very step gave, if there was one."""
    at_step = (
        logs for logs in reversed(state.log_history) if logs.get("step") == state.global_step
    )
    return next(({"score": logs[monitor]} for logs in at_step if monitor in logs), {})
