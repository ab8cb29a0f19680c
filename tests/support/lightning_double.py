"""Lightning, as far as its documentation describes what a callback sees; no torch, and no training.

Owns: the order of hooks, ModelCheckpoint's files and its attributes. Does not own: whether it is like
Lightning (``test_lightning.py`` compares it with Lightning's source). What uses it runs with Lightning, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path


class Callback:
    """The hooks that come up in a ``fit``."""

    def setup(self, trainer: Trainer, pl_module: object, stage: str) -> None: ...
    def teardown(self, trainer: Trainer, pl_module: object, stage: str) -> None: ...
    def on_fit_start(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_fit_end(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: object, batch: object, batch_idx: int
    ) -> None: ...
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: object, outputs: object, batch: object, batch_idx: int
    ) -> None: ...
    def on_train_epoch_start(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_validation_start(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_validation_end(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_train_start(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_train_end(self, trainer: Trainer, pl_module: object) -> None: ...
    def on_exception(
        self, trainer: Trainer, pl_module: object, exception: BaseException
    ) -> None: ...
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: object, checkpoint: dict[str, object]
    ) -> None: ...


class Checkpoint(Callback):
    """What the trainer takes for a callback that saves."""


class ModelCheckpoint(Checkpoint):
    """Keeps the best ``save_top_k``, and with ``save_last`` another file with the latest state."""

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        save_last: bool | str | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: str = "min",
        every_n_train_steps: int | None = None,
    ) -> None:
        self.dirpath = dirpath or "checkpoints"
        self.filename = filename
        self.monitor = monitor
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.mode = mode
        self.current_score: float | None = None
        self.best_k_models: dict[str, float] = {}
        self.best_model_path = ""
        self.last_model_path = ""
        self._every = every_n_train_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: object, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if self._every and trainer.global_step % self._every == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:
        if not self._every:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: object, exception: BaseException) -> None:
        if self.save_on_exception:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self.save_top_k:
            self._save_ranked(trainer)
        if self.save_last:
            self.last_model_path = os.path.join(self.dirpath, "last.ckpt")
            self._save_last(trainer, self.last_model_path)

    def _save_ranked(self, trainer: Trainer) -> None:
        name = f"epoch={trainer.current_epoch}-step={trainer.global_step}"
        path = os.path.join(self.dirpath, f"{self.filename or name}.ckpt")
        if self.monitor is None:
            old, self.best_model_path = self.best_model_path, path
            trainer.save_checkpoint(path, self.save_weights_only)
            if self.save_top_k == 1:
                self._remove(old, path)
            return
        score = trainer.callback_metrics[self.monitor]
        order = sorted(self.best_k_models, key=self.best_k_models.__getitem__)
        ranked = order if self.mode == "min" else order[::-1]
        is_full = len(ranked) == self.save_top_k
        worst = ranked[-1] if is_full else ""
        if worst and (score < self.best_k_models[worst]) != (self.mode == "min"):
            return
        self.best_k_models.pop(worst, None)
        self.best_k_models[path] = self.current_score = score
        best = min if self.mode == "min" else max
        self.best_model_path = best(self.best_k_models, key=self.best_k_models.__getitem__)
        trainer.save_checkpoint(path, self.save_weights_only)
        self._remove(worst, path)

    def _save_last(self, trainer: Trainer, path: str) -> None:
        if self.save_last == "link":
            Path(path).unlink(missing_ok=True)
            os.symlink(os.path.basename(self.best_model_path), path)
        else:
            trainer.save_checkpoint(path, self.save_weights_only)

    def _remove(self, old: str, new: str) -> None:
        if old and old != new:
            os.unlink(old)


class BoringModel:
    """Lightning's own model for examples."""

    def log(self, name: str, value: object) -> None:
        self.logged = {**getattr(self, "logged", {}), name: value}

    def training_step(self, batch: object, batch_idx: int) -> object:
        return None

    def validation_step(self, batch: float, batch_idx: int) -> dict[str, object]:
        return {"x": batch}


class Trainer:
    """Calls the hooks in Lightning's order.

    ``losses`` is the double's own: what validation gives, epoch by epoch.
    """

    losses: Sequence[float] = (0.9, 0.5, 0.7, 0.6)
    is_global_zero = True
    callback_metrics: dict[str, float]

    def __init__(
        self,
        *,
        callbacks: list[Callback] | None = None,
        max_epochs: int = 1,
        limit_train_batches: int = 2,
        **_: object,
    ) -> None:
        given = callbacks or []
        saving = [each for each in given if isinstance(each, Checkpoint)]
        self.callbacks = [each for each in given if each not in saving] + saving
        self.callback_metrics = {}
        self.current_epoch = self.global_step = 0
        self._max_epochs = max_epochs
        self._batches = limit_train_batches
        self._model: BoringModel

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        return [each for each in self.callbacks if isinstance(each, Checkpoint)]

    def save_checkpoint(self, filepath: str, weights_only: bool | None = None) -> None:
        """Write what tells this state from any other; Lightning, too, writes elsewhere and renames."""
        if not weights_only:
            self._call("on_save_checkpoint", {})
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        beside = Path(f"{filepath}.part")
        beside.write_text(f"{filepath} at step {self.global_step}\n" * 2000)
        beside.rename(filepath)

    def fit(self, model: BoringModel, ckpt_path: str | None = None) -> None:
        self._model = model
        for each in self.callbacks:
            each.setup(self, model, stage="fit")
        self._call("on_fit_start")
        self._call("on_train_start")
        try:
            while self.current_epoch < self._max_epochs:
                self._fit_epoch(model)
        except BaseException as error:
            self._call("on_exception", error)
            raise
        self._call("on_train_end")
        self._call("on_fit_end")
        for each in self.callbacks:
            each.teardown(self, model, stage="fit")

    def _fit_epoch(self, model: BoringModel) -> None:
        self._call("on_train_epoch_start")
        for batch in range(self._batches):
            self._call("on_train_batch_start", None, batch)
            model.training_step(None, batch)
            self.global_step += 1
            self.callback_metrics = dict(getattr(model, "logged", {}))
            self._call("on_train_batch_end", None, None, batch)
        self._call("on_validation_start")
        model.validation_step(self.losses[self.current_epoch], 0)
        self.callback_metrics = dict(getattr(model, "logged", {}))
        self._call("on_validation_end")
        saving = self.checkpoint_callbacks
        self._call("on_train_epoch_end", only=lambda each: each not in saving)
        self._call("on_train_epoch_end", only=lambda each: each in saving)
        self.current_epoch += 1

    def _call(
        self, hook: str, *args: object, only: Callable[[Callback], bool] = lambda _: True
    ) -> None:
        for each in self.callbacks:
            if only(each):
                getattr(each, hook)(self, self._model, *args)


def install(folder: Path, package: str) -> None:
    """Make it importable from ``folder`` as ``lightning.pytorch`` or ``pytorch_lightning``."""
    modules = {
        "__init__": "Trainer",
        "callbacks": "Callback, Checkpoint, ModelCheckpoint",
        "demos/__init__": "",
        "demos/boring_classes": "BoringModel",
    }
    root = folder.joinpath(*package.split("."))
    for name, members in modules.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        double = "tests.support.lightning_double"
        path.write_text(f"from {double} import {members}\n" if members else "")
    for parent in root.relative_to(folder).parents[:-1]:
        (folder / parent / "__init__.py").touch()
