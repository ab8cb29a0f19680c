"""The callback for Lightning, with a double of Lightning that is held to Lightning's source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import lightning_double
from tests.support.machine import Machine
from tests.support.reading import FolderObjects, files, records

_ROOT = Path(__file__).parents[2]
_TRAINERS = _ROOT / ".cache/trainers"
_PRELUDE = """
import sys
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
import wherry
from wherry.integrations.lightning import WherryCallback

class Model(BoringModel):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", super().validation_step(batch, batch_idx)["x"])

"""

_Train = Callable[..., list[tuple[dict[str, Any], str]]]


@pytest.fixture
def program(machine: Machine, tmp_path: Path) -> Callable[[str], str]:
    """Run a program with Lightning's double; what it printed."""
    lightning_double.install(tmp_path / "site", "lightning.pytorch")
    path = os.pathsep.join([str(tmp_path / "site"), str(_ROOT)])
    return lambda source: machine.run(_PRELUDE + source, env={"PYTHONPATH": path})


@pytest.fixture
def train(program: Callable[[str], str], machine: Machine) -> _Train:
    """Train four epochs of two steps with ModelCheckpoints; each version's record, and what its file says."""

    def training(*checkpoints: str, more: str = "", name: str = "m") -> list[tuple[Any, str]]:
        made = ", ".join(f"ModelCheckpoint('c{n}', {each})" for n, each in enumerate(checkpoints))
        program(
            f"callback = WherryCallback('m', project='p')\n"
            f"trainer = Trainer(max_epochs=4, callbacks=[callback, {made}])\n"
            f"{more}\ntrainer.fit(Model())\n"
        )
        machine.wait_all_done()
        return _versions(machine)

    return training


def _versions(machine: Machine, name: str = "m") -> list[tuple[dict[str, Any], str]]:
    store = FolderObjects(machine.home / "store")
    found = []
    for record in records(store, "p", name):
        ((path, body),) = files(store, "p", record)
        assert path == "model.ckpt"
        assert record["type"] == "model"
        found.append((record, body.decode().splitlines()[0]))
    return found


def _said(versions: list[tuple[dict[str, Any], str]]) -> list[str]:
    return [text for _, text in versions]


def _has_alias(machine: Machine, alias: str) -> str:
    return machine.wherry("show", f"p/m:{alias}", "--json").partition('"version": "')[2][:2]


def test_rotated_checkpoint_is_lost(train: _Train, machine: Machine) -> None:
    """What ModelCheckpoint deletes with its next save is a version, with epoch, step and score; the best is
    ``best``.
    """
    versions = train("monitor='val_loss', save_top_k=2")
    assert [record["metadata"] for record, _ in versions] == [
        {
            "epoch": epoch,
            "file": f"epoch={epoch}-step={step}.ckpt",
            "mode": "min",
            "monitor": "val_loss",
            "score": score,
            "step": step,
        }
        for epoch, step, score in [(0, 2, 0.9), (1, 4, 0.5), (2, 6, 0.7), (3, 8, 0.6)]
    ]
    assert _said(versions) == [
        f"c0/epoch={n}-step={2 * n + 2}.ckpt at step {2 * n + 2}" for n in range(4)
    ]
    assert len(os.listdir(machine.work / "c0")) == 2
    assert _has_alias(machine, "best") == "v1"
    assert _has_alias(machine, "latest") == "v3"


@pytest.mark.parametrize("last", ["True", "'link'"])
def test_last_beside_a_ranked_one_is_logged_as_well(train: _Train, last: str) -> None:
    """One state of the training is one version, also where ``last.ckpt`` is beside it, or links to it."""
    versions = train(f"monitor='val_loss', save_top_k=2, save_last={last}")
    assert [text.partition(" ")[0] for text in _said(versions)] == [
        f"c0/epoch={n}-step={2 * n + 2}.ckpt" for n in range(4)
    ]


def test_last_alone_is_not_logged(train: _Train) -> None:
    """Where a state is in ``last.ckpt`` only, that is logged, as often as it is written anew."""
    versions = train("save_top_k=0, save_last=True")
    assert _said(versions) == [f"c0/last.ckpt at step {step}" for step in (2, 4, 6, 8)]


@pytest.mark.parametrize("monitor", ["None", "'val_loss'"])
def test_file_that_is_overwritten_is_logged_once(train: _Train, monitor: str) -> None:
    """A file that is always called the same is a version each time that it is written."""
    versions = train(f"monitor={monitor}, filename='same', mode='max'")
    steps = [2, 4, 6, 8] if monitor == "None" else [2]  # 0.9 is the highest
    assert _said(versions) == [f"c0/same.ckpt at step {step}" for step in steps]


def test_file_that_is_written_in_place_is_logged_once(train: _Train) -> None:
    """So is a file that stays the same one and as long as it was."""
    versions = train(
        "filename='same'",
        more="def save(path, weights_only=None):\n"
        "    with open(path, 'w') as f: f.write(f'step {trainer.global_step}' * 1000)\n"
        "import os; os.mkdir('c0'); trainer.save_checkpoint = save",
    )
    assert [text[:6] for text in _said(versions)] == ["step 2", "step 4", "step 6", "step 8"]


def test_background_write_is_logged_too_early(train: _Train) -> None:
    """What is written in the background is logged when it is there, as what it was when it was saved."""
    versions = train(
        "save_top_k=-1",
        more="import os\n"
        "def save(path, weights_only=None):\n"
        "    callback.on_save_checkpoint(trainer, None, {})\n"
        "    late.append((path, f'{path} at step {trainer.global_step}'))\n"
        "def training_step(*_):\n"
        "    while late and trainer.global_step % 2:\n"
        "        path, text = late.pop()\n"
        "        with open(path, 'w') as f: f.write(text)\n"
        "os.mkdir('c0'); late = []\n"
        "trainer.save_checkpoint, Model.training_step = save, training_step\n",
    )
    assert _said(versions) == [
        f"c0/epoch={n}-step={2 * n + 2}.ckpt at step {2 * n + 2}" for n in range(3)
    ]
    assert [(each["metadata"]["epoch"], each["metadata"]["step"]) for each, _ in versions] == [
        (0, 2),
        (1, 4),
        (2, 6),
    ]


def test_weights_alone_are_not_noticed(train: _Train) -> None:
    """Weights alone, of which Lightning tells callbacks nothing, are logged with their steps."""
    versions = train("save_weights_only=True, every_n_train_steps=3, save_top_k=-1")
    assert [record["metadata"] for record, _ in versions] == [
        {"epoch": 1, "file": "epoch=1-step=3.ckpt", "step": 3},
        {"epoch": 2, "file": "epoch=2-step=6.ckpt", "step": 6},
    ]


def test_checkpoint_between_two_validations_is_lost(
    program: Callable[[str], str], machine: Machine
) -> None:
    """Checkpoints that come and go within an epoch, and are not the best, are versions as well."""
    program(
        "class Steps(Model):\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        self.log('loss', [0.1, 0.9, 0.8, 0.7, 0.6, 0.5][batch_idx])\n"
        "saver = ModelCheckpoint('c', monitor='loss', save_top_k=2, every_n_train_steps=1)\n"
        "callbacks = [WherryCallback('m', project='p'), saver]\n"
        "Trainer(callbacks=callbacks, limit_train_batches=6).fit(Steps())\n"
    )
    machine.wait_all_done()
    metadata = [record["metadata"] for record, _ in _versions(machine)]
    assert [each["step"] for each in metadata] == [1, 2, 3, 4, 5, 6]
    assert [each["score"] for each in metadata] == [0.1, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert _has_alias(machine, "best") == "v0"


def test_sharded_checkpoint_is_not_a_file(program: Callable[[str], str], machine: Machine) -> None:
    """A checkpoint that is a folder lies whole below ``model.ckpt``."""
    program(
        "import os\n"
        "def save(path, weights_only=None):\n"
        "    os.makedirs(path)\n"
        "    for rank in (0, 1):\n"
        "        with open(f'{path}/__{rank}.distcp', 'w') as part: part.write(f'{path} {rank}')\n"
        "trainer = Trainer(max_epochs=2, callbacks=[WherryCallback('m', project='p'),\n"
        "    ModelCheckpoint('c', save_top_k=-1)])\n"
        "trainer.save_checkpoint = save\n"
        "trainer.fit(Model())\n"
    )
    machine.wait_all_done()
    store = FolderObjects(machine.home / "store")
    assert [dict(files(store, "p", record)) for record in records(store, "p", "m")] == [
        {f"model.ckpt/__{rank}.distcp": f"c/{name} {rank}".encode() for rank in (0, 1)}
        for name in ("epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt")
    ]


def test_bucket_is_taken_for_a_folder(program: Callable[[str], str], machine: Machine) -> None:
    """Checkpoints that Lightning writes elsewhere are not logged, and the user is told so once."""
    said = program(
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    Trainer(max_epochs=2, callbacks=[WherryCallback('m', project='p'),\n"
        "        ModelCheckpoint('s3://bucket')]).fit(Model())\n"
        "print(*[each.message for each in caught], sep='\\n')\n"
    )
    assert said == "wherry: checkpoints on s3:// are not on this machine, and are not logged.\n"


def test_second_writer_is_forgotten(train: _Train, machine: Machine) -> None:
    """All ModelCheckpoints' files are versions; ``best`` is the first's that monitors something."""
    versions = train(
        "every_n_train_steps=4", "monitor='val_loss', save_top_k=-1", "monitor='val_loss'"
    )
    texts = _said(versions)
    folders = [text.partition("/")[0] for text in texts]
    assert [folders.count(each) for each in ("c0", "c1", "c2")] == [2, 4, 2]
    best = texts.index("c1/epoch=1-step=4.ckpt at step 4")
    assert _has_alias(machine, "best") == f"v{best}"


def test_checkpoint_of_an_exception_is_lost(
    program: Callable[[str], str], machine: Machine
) -> None:
    """What is saved because the training failed is logged, though the callbacks that save come last."""
    program(
        "def fail(*_):\n"
        "    if trainer.global_step == 5: raise RuntimeError('boom')\n"
        "model = Model()\n"
        "model.training_step = fail\n"
        "with wherry.init(project='p') as run:\n"
        "    trainer = Trainer(max_epochs=4, callbacks=[WherryCallback('m'),\n"
        "        ModelCheckpoint('c', save_on_exception=True)])\n"
        "    try: trainer.fit(model)\n"
        "    except RuntimeError: pass\n"
    )
    machine.wait_all_done()
    assert _said(_versions(machine))[-1] == "c/epoch=2-step=5.ckpt at step 5"


def test_other_rank_logs(program: Callable[[str], str], machine: Machine) -> None:
    """Only global rank zero logs: another needs neither run nor daemon."""
    program(
        "trainer = Trainer(max_epochs=4, callbacks=[WherryCallback('m'), ModelCheckpoint('c')])\n"
        "trainer.is_global_zero = False\n"
        "trainer.fit(Model())\n"
    )
    assert os.listdir(machine.work / "c") != []
    assert machine.daemon_pid() is None


def test_older_checkpoints_are_logged_again(
    program: Callable[[str], str], machine: Machine
) -> None:
    """What lay there before the training began, as when one is resumed, is not logged by it."""
    program(
        "for _ in range(2):\n"
        "    saver = ModelCheckpoint('c', monitor='val_loss', save_top_k=-1)\n"
        "    if _: saver.best_k_models, saver.best_model_path = dict(before.best_k_models), before.best_model_path\n"
        "    trainer = Trainer(max_epochs=2 + _, callbacks=[WherryCallback('m', project='p'), saver])\n"
        "    if _: trainer.current_epoch, trainer.global_step = 2, 4\n"
        "    trainer.fit(Model())\n"
        "    before = saver\n"
    )
    machine.wait_all_done()
    steps = [record["metadata"]["step"] for record, _ in _versions(machine)]
    assert steps == [2, 4, 6]


def test_pytorch_lightning_is_not_found(machine: Machine, tmp_path: Path) -> None:
    """The older package's name will do, where it is the only one, and where it is the one in use."""
    source = (
        "import sys; {before}\n"
        "from pytorch_lightning.callbacks import Callback\n"
        "from wherry.integrations.lightning import WherryCallback\n"
        "assert issubclass(WherryCallback, Callback)\n"
    )
    for site, package in (("old", "pytorch_lightning"), ("both", "pytorch_lightning")):
        lightning_double.install(tmp_path / site, package)
    # In the second folder both are installed, as `pip install lightning` has them, and differ.
    lightning_double.install(tmp_path / "both", "lightning.pytorch")
    (tmp_path / "both/lightning/pytorch/callbacks.py").write_text("class Callback: ...\n")
    for site in ("old", "both"):
        path = os.pathsep.join([str(tmp_path / site), str(_ROOT)])
        machine.run(source.format(before=""), env={"PYTHONPATH": path})


def test_example_logs_something_else(machine: Machine, tmp_path: Path) -> None:
    """The example logs each checkpoint that was the best so far, keeps one file, and finds it again."""
    lightning_double.install(tmp_path / "site", "lightning.pytorch")
    path = os.pathsep.join([str(tmp_path / "site"), str(_ROOT)])
    done = subprocess.run(
        [sys.executable, _ROOT / "examples/lightning_callback.py"],
        cwd=machine.work,
        env={**machine.env, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the best is boring:v1: val_loss 0.500\n"
    assert len(records(FolderObjects(machine.home / "store"), "examples", "boring")) == 2
    assert len(os.listdir(machine.work / "checkpoints")) == 1


# ── the double ─────────────────────────────────────────────────────────────────────────────────────
def _lightning(module: str) -> ast.Module:
    (source,) = _TRAINERS.glob(f"lib/python*/site-packages/lightning/pytorch/{module}.py")
    return ast.parse(source.read_text())


def _class(tree: ast.Module, name: str) -> dict[str, ast.FunctionDef]:
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    return {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]


def _double(name: str) -> dict[str, ast.FunctionDef]:
    return _class(ast.parse(Path(lightning_double.__file__).read_text()), name)


def test_double_has_other_hooks() -> None:
    """Each hook of the double is Lightning's, with its parameters."""
    real = _class(_lightning("callbacks/callback"), "Callback")
    ours = _double("Callback")
    assert len(ours) > 10
    assert {name: _parameters(hook) for name, hook in ours.items()} == {
        name: _parameters(real[name]) for name in ours
    }


def test_double_has_other_attributes() -> None:
    """What the double lets a callback read is there in Lightning, under that name."""
    (real,) = [
        method
        for name, method in _class(
            _lightning("callbacks/model_checkpoint"), "ModelCheckpoint"
        ).items()
        if name == "__init__"
    ]
    there = {node.attr for node in ast.walk(real) if isinstance(node, ast.Attribute)} | {
        "dirpath",  # set by a method of its own, and so is mode
        "filename",
        "mode",
    }
    ours = ast.walk(_double("ModelCheckpoint")["__init__"])
    public = {n.attr for n in ours if isinstance(n, ast.Attribute) and not n.attr.startswith("_")}
    assert public <= there
    assert set(_parameters(_double("ModelCheckpoint")["__init__"])) <= set(_parameters(real))
    trainer = _class(_lightning("trainer/trainer"), "Trainer")
    read = {"is_global_zero", "current_epoch", "global_step", "checkpoint_callbacks"}
    assert read | {"callback_metrics", "save_checkpoint", "fit"} <= trainer.keys()


def test_source_without_torch_is_said_to_be_missing(machine: Machine) -> None:
    """What Lightning itself lacks is told as it is, and not as Lightning missing."""
    done = subprocess.run(
        [_TRAINERS / "bin/python", "-c", "import wherry.integrations.lightning"],
        env=machine.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "LibraryMissing" not in done.stderr
    assert "No module named" in done.stderr
