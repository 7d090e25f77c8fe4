"""Out-of-domain detection: masks, distances, detectors, calibration, metrics. Knows no network, only callables."""

from fedlmd.detection.calibration import LEVELS, CalibrationError, Moments, Sketch, fuse, moments, pooled
from fedlmd.detection.conformal import Reference, SiteCalibration, Verdict, decide, reference
from fedlmd.detection.detector import Detector, MaxLogit, scored
from fedlmd.detection.distances import (
    Distance,
    Once,
    deep_feature,
    embedding_distance,
    lpips_distance,
    mse,
    ssim_distance,
)
from fedlmd.detection.drift import Alarm, Below, DriftConfig, DriftReport, DriftState, DriftWatch
from fedlmd.detection.feature_space import ClassGaussians, Mahalanobis, directions
from fedlmd.detection.heat import agreed, explaining, heat
from fedlmd.detection.lmd import (
    FAST,
    LMD,
    PAPER,
    PRESETS,
    Condition,
    DistanceKind,
    LMDConfig,
    Reconstruction,
    fixed_noise,
)
from fedlmd.detection.masks import MaskKind, masks
from fedlmd.detection.metrics import Separation, separation
from fedlmd.detection.one_step import OneStep, OneStepConfig
from fedlmd.detection.union import Union

__all__ = [
    "FAST",
    "LEVELS",
    "LMD",
    "PAPER",
    "PRESETS",
    "Alarm",
    "Below",
    "CalibrationError",
    "ClassGaussians",
    "Condition",
    "Detector",
    "Distance",
    "DistanceKind",
    "DriftConfig",
    "DriftReport",
    "DriftState",
    "DriftWatch",
    "LMDConfig",
    "Mahalanobis",
    "MaskKind",
    "MaxLogit",
    "Moments",
    "Once",
    "OneStep",
    "OneStepConfig",
    "Reconstruction",
    "Reference",
    "Separation",
    "SiteCalibration",
    "Sketch",
    "Union",
    "Verdict",
    "agreed",
    "decide",
    "deep_feature",
    "directions",
    "embedding_distance",
    "explaining",
    "fixed_noise",
    "fuse",
    "heat",
    "lpips_distance",
    "masks",
    "moments",
    "mse",
    "pooled",
    "reference",
    "scored",
    "separation",
    "ssim_distance",
]
