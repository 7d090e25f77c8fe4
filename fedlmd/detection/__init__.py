"""Out-of-domain detection: masks, distances, detectors, calibration, metrics. Knows no network, only callables."""

from fedlmd.detection.calibration import LEVELS, CalibrationError, Moments, Sketch, fuse, moments, pooled
from fedlmd.detection.detector import Detector, MaxLogit, scored
from fedlmd.detection.distances import Distance, Once, deep_feature, lpips_distance, mse, ssim_distance
from fedlmd.detection.lmd import FAST, LMD, PAPER, PRESETS, LMDConfig, Reconstruction, fixed_noise
from fedlmd.detection.masks import MaskKind, masks
from fedlmd.detection.metrics import Separation, separation
from fedlmd.detection.one_step import OneStep, OneStepConfig

__all__ = [
    "FAST",
    "LEVELS",
    "LMD",
    "PAPER",
    "PRESETS",
    "CalibrationError",
    "Detector",
    "Distance",
    "LMDConfig",
    "MaskKind",
    "MaxLogit",
    "Moments",
    "Once",
    "OneStep",
    "OneStepConfig",
    "Reconstruction",
    "Separation",
    "Sketch",
    "deep_feature",
    "fixed_noise",
    "fuse",
    "lpips_distance",
    "masks",
    "moments",
    "mse",
    "pooled",
    "scored",
    "separation",
    "ssim_distance",
]
