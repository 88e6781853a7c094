"""Center loss in PyTorch Lightning: pip install lightning; python docs/lightning_loop.py

Data, detector and evaluation are those of own_loop.py. What detcenter adds is marked with an arrow.
"""

import lightning
import torch
from own_loop import detector, digits, moved

import detcenter
from detcenter.evaluation import coco_metrics


class Detector(lightning.LightningModule):
    def __init__(self, classes: int, lr: float = 0.001) -> None:
        super().__init__()
        self.lr = lr
        self.model = detector(classes)
        detcenter.attach(self.model)  # <- here, so that checkpoints of Lightning fit

    def training_step(self, batch, index):
        losses = self.model(*moved(batch, self.device))  # <- loss_center is one of them, weighted
        self.log_dict(dict(losses), prog_bar=True, batch_size=len(batch))
        return sum(losses.values())

    def on_validation_epoch_start(self):
        self.found = []

    def validation_step(self, batch, index):
        outputs = self.model(moved(batch, self.device)[0])
        self.found += [{key: value.cpu() for key, value in output.items()} for output in outputs]

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:  # not all images were seen
            return
        val = self.trainer.val_dataloaders.dataset
        numbers = coco_metrics(val.annotations, self.found, val.classes)
        self.log_dict({key: numbers[key] for key in ("AP", "AP50")}, prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, steps, pct_start=0.15)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def main(train: int = 200, val: int = 200, **trainer) -> None:
    """Learn `train` scenes and measure on `val`; the rest goes to Lightning's Trainer."""
    lightning.seed_everything(0)
    to_learn, to_measure = digits(train, val)
    model = Detector(len(to_measure.dataset.classes))
    settings = {"max_epochs": 14, "check_val_every_n_epoch": 14, "num_sanity_val_steps": 0}
    lightning.Trainer(**settings | trainer).fit(model, to_learn, to_measure)
    detcenter.detach(model.model)  # <- plain torchvision again
    torch.save(model.model.state_dict(), "lightning_loop.pth")


if __name__ == "__main__":
    main()
