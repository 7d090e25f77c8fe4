"""From a release to predictions: detectors, predictor, evaluation, figures."""

from fedlmd.inference.detectors import detector_inputs, detectors, heat_of_cells
from fedlmd.inference.evaluation import Report, examine, known_source
from fedlmd.inference.figures import Row, channels_last, gallery, heat_map, heated, png
from fedlmd.inference.nearest import NearestImage, NearestImages
from fedlmd.inference.prediction import Explanation, Prediction, Redrawings
from fedlmd.inference.predictor import CLASS, Predictor, references
from fedlmd.inference.self_test import self_test_outputs, self_test_scores

__all__ = [
    "CLASS",
    "Explanation",
    "NearestImage",
    "NearestImages",
    "Prediction",
    "Predictor",
    "Redrawings",
    "Report",
    "Row",
    "channels_last",
    "detector_inputs",
    "detectors",
    "examine",
    "gallery",
    "heat_map",
    "heat_of_cells",
    "heated",
    "known_source",
    "png",
    "references",
    "self_test_outputs",
    "self_test_scores",
]
