"""transformers' Trainer without torch: a model that learns nothing, and all that a callback sees.

Real are the callback handler, the flow that decides when to evaluate and save, the state and the rotation of
checkpoints. Owns: their order in a training, what lies in a checkpoint. Run as ``-m``, it puts itself into
transformers' place for a program.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import transformers
from transformers.trainer_callback import (
    CallbackHandler,
    DefaultFlowCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, rotate_checkpoints

_BATCH = 8


class Arguments(SimpleNamespace):
    """``TrainingArguments``, as far as the flow, the rotation and a callback read them."""

    def __init__(self, output_dir: str, **given: object) -> None:
        defaults = {
            "eval_delay": 0,
            "eval_strategy": "no",
            "greater_is_better": False,
            "logging_first_step": False,
            "logging_strategy": "no",
            "metric_for_best_model": None,
            "num_train_epochs": 3,
            "save_steps": 500,
            "save_strategy": "steps",
            "save_total_limit": None,
        }
        super().__init__(output_dir=output_dir, **{**defaults, **given})
        self.eval_strategy = IntervalStrategy(self.eval_strategy)
        self.logging_strategy = IntervalStrategy(self.logging_strategy)
        self.save_strategy = SaveStrategy(self.save_strategy)


class Trainer:
    """Goes through the steps of an epoch. ``losses`` is the double's own: what evaluation gives."""

    losses: Sequence[float] = (0.9, 0.5, 0.7, 0.6)
    run_dir = ""  # a trial's folder in a search for hyperparameters

    def __init__(
        self,
        model: object,
        args: Arguments,
        *,
        train_dataset: Sequence[object],
        eval_dataset: Sequence[object] = (),
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.args = args
        self.control = TrainerControl()
        self.state = TrainerState(is_world_process_zero=os.environ.get("RANK", "0") == "0")
        self._steps = len(train_dataset) // _BATCH
        self._handler = CallbackHandler([DefaultFlowCallback, *callbacks], model, None, None, None)

    def train(self) -> None:
        args, state, handler = self.args, self.state, self._handler
        state.max_steps = self._steps * args.num_train_epochs
        state.save_steps = args.save_steps
        self.control = handler.on_train_begin(args, state, self.control)
        for epoch in range(args.num_train_epochs):
            self.control = handler.on_epoch_begin(args, state, self.control)
            for step in range(self._steps):
                self.control = handler.on_step_begin(args, state, self.control)
                state.global_step += 1
                state.epoch = epoch + (step + 1) / self._steps
                self.control = handler.on_step_end(args, state, self.control)
                self._evaluate_and_save(epoch)
            self.control = handler.on_epoch_end(args, state, self.control)
            self._evaluate_and_save(epoch)
        self.control = handler.on_train_end(args, state, self.control)

    def _evaluate_and_save(self, epoch: int) -> None:
        args, state = self.args, self.state
        if self.control.should_evaluate:
            metrics = {"eval_loss": self.losses[epoch]}
            state.log_history.append({**metrics, "epoch": state.epoch, "step": state.global_step})
            if state.best_metric is None or metrics["eval_loss"] < state.best_metric:
                state.best_metric, state.best_global_step = metrics["eval_loss"], state.global_step
            self.control = self._handler.on_evaluate(args, state, self.control, metrics)
        if self.control.should_save:
            self._save()
            self.control = self._handler.on_save(args, state, self.control)

    def _save(self) -> None:
        state = self.state
        run_dir = Path(self.args.output_dir, self.run_dir)
        folder = run_dir / f"checkpoint-{state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_text(f"step {state.global_step}\n" * 20_000)
        (folder / "rng_state.pth").write_bytes(os.urandom(16))
        best = run_dir / f"checkpoint-{state.best_global_step}"
        if state.best_global_step and best.exists():
            state.best_model_checkpoint = str(best)
        state.save_to_json(str(folder / "trainer_state.json"))
        rotate_checkpoints(
            output_dir=str(run_dir),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=state.best_model_checkpoint,
        )


if __name__ == "__main__":
    transformers.Trainer, transformers.TrainingArguments = Trainer, Arguments
    transformers.BertForSequenceClassification = id  # no model
    transformers.BertConfig = dict
    runpy.run_path(sys.argv[1], run_name="__main__")
