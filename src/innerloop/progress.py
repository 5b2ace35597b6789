"""The progress bar."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's Rich bar, less the version numbers of the loggers and the number of the only epoch."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training  "  # as wide as "Validation"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
