"""The callback for Hugging Face's Trainer: its real callback handler, flow and rotation, without torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.reading import FolderObjects, files, records

_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / ".cache/trainers/bin/python"
_PRELUDE = """
import wherry
from transformers import Trainer, TrainingArguments
from wherry.integrations.transformers import WherryCallback

def train(*args, callback=None, **given):
    callback = callback or WherryCallback("m", project="p")
    given = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 4, **given}
    arguments = TrainingArguments("out", **given)
    Trainer(None, arguments, train_dataset=[0] * 16, callbacks=[callback]).train()

"""


@pytest.fixture
def run(machine: Machine) -> Callable[..., str]:
    """Run a program where transformers is installed; what it printed."""

    def running(program: Path, **env: str) -> str:
        done = subprocess.run(
            [_PYTHON, "-m", "tests.support.transformers_double", program],
            cwd=machine.work,
            env={**machine.env, "PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1", **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return running


@pytest.fixture
def train(run: Callable[..., str], machine: Machine, tmp_path: Path) -> Callable[..., str]:
    """Run a few lines after the prelude."""

    def training(source: str, **env: str) -> str:
        program = tmp_path / "program.py"
        program.write_text(_PRELUDE + source)
        return run(program, **env)

    return training


def _versions(machine: Machine) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    machine.wait_all_done()
    store = FolderObjects(machine.home / "store")
    return [(each, dict(files(store, "p", each))) for each in records(store, "p", "m")]


def _alias(machine: Machine, alias: str) -> str:
    return machine.wherry("show", f"p/m:{alias}", "--json").partition('"version": "')[2][:2]


def test_rotated_folder_is_lost(train: Callable[..., str], machine: Machine) -> None:
    """What ``save_total_limit`` deletes is a version with epoch, step and score; the best is found."""
    train("train(save_total_limit=1, metric_for_best_model='loss')")
    versions = _versions(machine)
    assert [record["metadata"] for record, _ in versions] == [
        {"epoch": epoch, "mode": "min", "monitor": "eval_loss", "score": score, "step": step}
        for epoch, step, score in [(1.0, 2, 0.9), (2.0, 4, 0.5), (3.0, 6, 0.7), (4.0, 8, 0.6)]
    ]
    for record, there in versions:
        assert sorted(there) == ["model.safetensors", "rng_state.pth", "trainer_state.json"]
        assert there["model.safetensors"].startswith(b"step %d\n" % record["metadata"]["step"])
        assert record["type"] == "model"
    assert sorted(os.listdir(machine.work / "out")) == ["checkpoint-4", "checkpoint-8"]
    assert (_alias(machine, "best"), _alias(machine, "latest")) == ("v1", "v3")


def test_two_reasons_make_two_versions(train: Callable[..., str], machine: Machine) -> None:
    """A step that is saved twice is one version."""
    train(
        "from transformers import TrainerCallback\n"
        "class Often(TrainerCallback):\n"
        "    def on_step_end(self, args, state, control, **_):\n"
        "        control.should_save = state.global_step % 2 == 0\n"
        "    on_epoch_end = on_step_end\n"
        "arguments = TrainingArguments('out', save_strategy='no', num_train_epochs=2)\n"
        "callbacks = [Often(), WherryCallback('m', project='p')]\n"
        "Trainer(None, arguments, train_dataset=[0] * 16, callbacks=callbacks).train()\n"
    )
    metadata = [record["metadata"] for record, _ in _versions(machine)]
    assert metadata == [{"epoch": 1.0, "step": 2}, {"epoch": 2.0, "step": 4}]


def test_score_is_an_older_steps(train: Callable[..., str], machine: Machine) -> None:
    """A checkpoint between two evaluations has no score."""
    train(
        "train(save_strategy='steps', save_steps=1, metric_for_best_model='loss',\n"
        "      num_train_epochs=2)"
    )
    metadata = [record["metadata"] for record, _ in _versions(machine)]
    assert [(each["step"], each.get("score")) for each in metadata] == [
        (1, None),
        (2, None),  # saved before it was evaluated
        (3, None),
        (4, None),
    ]


def test_other_process_logs(train: Callable[..., str], machine: Machine) -> None:
    """Only the main process logs: another needs neither run nor daemon."""
    train("train()", RANK="1")
    assert os.listdir(machine.work / "out") != []
    assert machine.daemon_pid() is None


def test_trial_is_not_found(train: Callable[..., str], machine: Machine) -> None:
    """In a search for hyperparameters each trial is found, though others have saved the same step."""
    train(
        "with wherry.init(project='p') as run:\n"
        "    for trial in (0, 1):\n"
        "        Trainer.run_dir = f'run-{trial}'\n"
        "        callback = WherryCallback('m', metadata={'trial': trial})\n"
        "        train(callback=callback, num_train_epochs=1)\n"
        "    assert wherry.run is run\n"
    )
    assert sorted(os.listdir(machine.work / "out")) == ["run-0", "run-1"]
    versions = _versions(machine)
    assert len(versions) == 2
    for trial, (record, there) in enumerate(versions):
        assert record["metadata"] == {"epoch": 1.0, "step": 2, "trial": trial}
        written = machine.work / f"out/run-{trial}/checkpoint-2/rng_state.pth"
        assert there["rng_state.pth"] == written.read_bytes()


def test_own_run_is_left_to_the_end_of_the_script(
    train: Callable[..., str], machine: Machine
) -> None:
    """Without a run of the user's, all is committed when ``train()`` returns, and no run is left; the next
    training with that callback writes the same step anew, and that is another version.
    """
    said = train(
        "callback = WherryCallback('m', project='p')\n"
        "for _ in range(2):\n"
        "    train(callback=callback, num_train_epochs=1)\n"
        "    print(wherry.run, wherry.Api().artifact('p/m:latest').name)\n"
    )
    assert said == "None m:v0\nNone m:v1\n"


def test_example_logs_something_else(run: Callable[..., str], machine: Machine) -> None:
    """The example logs four checkpoints, keeps two, and finds the best."""
    said = run(_ROOT / "examples/transformers_callback.py")
    assert said == "the best is tiny-bert:v1: loss 0.500\n"
    assert len(records(FolderObjects(machine.home / "store"), "examples", "tiny-bert")) == 4
    assert len(os.listdir(machine.work / "checkpoints")) == 2
