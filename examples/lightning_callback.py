"""Log each checkpoint of a training with Lightning as a version of one artifact.

    python lightning_callback.py

Needs Lightning: pip install 'wherry[daemon]' lightning
"""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

import wherry
from wherry.integrations.lightning import WherryCallback


class Model(BoringModel):
    """A linear layer, trained on random numbers."""

    def validation_step(self, batch, batch_idx):
        """Report a loss for ModelCheckpoint to go by."""
        self.log("val_loss", super().validation_step(batch, batch_idx)["x"])


trainer = Trainer(
    max_epochs=4,
    limit_train_batches=8,
    limit_val_batches=2,
    logger=False,
    enable_progress_bar=False,
    callbacks=[
        # One file stays on this machine; all of them become versions.
        ModelCheckpoint(dirpath="checkpoints", monitor="val_loss", save_top_k=1),
        WherryCallback("boring", project="examples"),
    ],
)
trainer.fit(Model())

best = wherry.Api().artifact("examples/boring:best")
print(f"the best is {best.name}: val_loss {best.metadata['score']:.3f}")
