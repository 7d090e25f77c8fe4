"""Training: objectives, the loop, the moving average, evaluation. Knows no detector and no federation."""

from fedlmd.training.augmentation import AugmentationConfig, augment
from fedlmd.training.ema import Average
from fedlmd.training.evaluate import Evaluation, Judged, evaluate, judge
from fedlmd.training.loop import Step, TrainingConfig, batches, train
from fedlmd.training.objectives import Batch, Objective, classification, denoising, proximal

__all__ = [
    "AugmentationConfig",
    "Average",
    "Batch",
    "Evaluation",
    "Judged",
    "Objective",
    "Step",
    "TrainingConfig",
    "augment",
    "batches",
    "classification",
    "denoising",
    "evaluate",
    "judge",
    "proximal",
    "train",
]
