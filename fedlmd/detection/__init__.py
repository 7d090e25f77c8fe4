"""Out-of-distribution detection: masks, distances, detectors, metrics. Takes callables, imports no network."""

from fedlmd.detection.config import WEIGHED, DetectorConfig
from fedlmd.detection.detector import Detector
from fedlmd.detection.distances import Distance, embedding_distance, mse, ssim_distance
from fedlmd.detection.energy import Energy
from fedlmd.detection.features import Features, l2_normalised
from fedlmd.detection.heat_map import explanation_config, heat, median_reconstruction, residual_heat
from fedlmd.detection.inputs import DetectorInputs, WorkerDenoiser, gaussian_features
from fedlmd.detection.lmd import LMD, PAPER, PRESETS, LMDConfig, Reconstruction, fixed_noise
from fedlmd.detection.mahalanobis import ClassGaussians, Mahalanobis, class_gaussians
from fedlmd.detection.masks import MaskKind
from fedlmd.detection.max_logit import MaxLogit
from fedlmd.detection.metrics import Separation, separation
from fedlmd.detection.one_step import OneStep, OneStepConfig
from fedlmd.detection.registry import DENOISING, DETECTORS, build_detectors
from fedlmd.detection.scores import fuse, in_batches, moments_of, scored
from fedlmd.detection.union import Union

__all__ = [
    "DENOISING",
    "DETECTORS",
    "LMD",
    "PAPER",
    "PRESETS",
    "WEIGHED",
    "ClassGaussians",
    "Detector",
    "DetectorConfig",
    "DetectorInputs",
    "Distance",
    "Energy",
    "Features",
    "LMDConfig",
    "Mahalanobis",
    "MaskKind",
    "MaxLogit",
    "OneStep",
    "OneStepConfig",
    "Reconstruction",
    "Separation",
    "Union",
    "WorkerDenoiser",
    "build_detectors",
    "class_gaussians",
    "embedding_distance",
    "explanation_config",
    "fixed_noise",
    "fuse",
    "gaussian_features",
    "heat",
    "in_batches",
    "l2_normalised",
    "median_reconstruction",
    "moments_of",
    "mse",
    "residual_heat",
    "scored",
    "separation",
    "ssim_distance",
]
