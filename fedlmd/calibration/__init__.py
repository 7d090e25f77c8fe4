"""Moments, sketches, conformal p-values, drift, class Gaussians. Needs numpy only."""

from fedlmd.calibration.class_gaussians import (
    DESCRIBED,
    GAUSSIANS,
    THUMBNAILS,
    added,
    check_sums,
    gaussians,
    square,
    sums_by_class,
)
from fedlmd.calibration.config import CalibrationConfig
from fedlmd.calibration.conformal import ComparedImages, Reference, Verdict, decide, reference
from fedlmd.calibration.drift import DriftConfig, DriftReport, DriftState, DriftWatch
from fedlmd.calibration.drift_state import from_json, to_json
from fedlmd.calibration.moments import HEAT, RIGHT, CalibrationError, Moments, pool_moments, right_of
from fedlmd.calibration.promise import EVALUATION, PromiseCheck, check_scores, check_sketches, needed, too_few
from fedlmd.calibration.repeats import IN_A_ROW, Repeats
from fedlmd.calibration.sketch import LEVELS, Sketch, pool_sketches
from fedlmd.calibration.whitening import ENCODER, cell_sums, check_cell_sums, whitening

__all__ = [
    "DESCRIBED",
    "ENCODER",
    "EVALUATION",
    "GAUSSIANS",
    "HEAT",
    "IN_A_ROW",
    "LEVELS",
    "RIGHT",
    "THUMBNAILS",
    "CalibrationConfig",
    "CalibrationError",
    "ComparedImages",
    "DriftConfig",
    "DriftReport",
    "DriftState",
    "DriftWatch",
    "Moments",
    "PromiseCheck",
    "Reference",
    "Repeats",
    "Sketch",
    "Verdict",
    "added",
    "cell_sums",
    "check_cell_sums",
    "check_scores",
    "check_sketches",
    "check_sums",
    "decide",
    "from_json",
    "gaussians",
    "needed",
    "pool_moments",
    "pool_sketches",
    "reference",
    "right_of",
    "square",
    "sums_by_class",
    "to_json",
    "too_few",
    "whitening",
]
