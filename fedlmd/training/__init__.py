"""Training: objectives, the loop, the moving average, evaluation. Imports no detector and no federation."""

from fedlmd.training.augmentation import AugmentationConfig
from fedlmd.training.defaults import IMAGES, THUMBNAILS, for_latents
from fedlmd.training.evaluation import Classify, Evaluation, evaluate, evaluate_images
from fedlmd.training.fitting import fit_classifier, fit_denoiser
from fedlmd.training.loop import TrainingConfig

__all__ = [
    "IMAGES",
    "THUMBNAILS",
    "AugmentationConfig",
    "Classify",
    "Evaluation",
    "TrainingConfig",
    "evaluate",
    "evaluate_images",
    "fit_classifier",
    "fit_denoiser",
    "for_latents",
]
