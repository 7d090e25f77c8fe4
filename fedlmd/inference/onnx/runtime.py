"""A graph under ONNX Runtime, compared with the release that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped

from fedlmd.inference.onnx.graph import IMAGES, IS_OOD, PROBABILITIES, OnnxError, optional
from fedlmd.inference.predictor import Predictor
from fedlmd.release import LOGITS, VERDICT
from fedlmd.release.self_test import relative_difference

TOLERANCE = 1e-3
"""A graph whose outputs differ by more than this share of the largest of their kind is not written."""

Outputs = dict[str, Shaped[np.ndarray, "n ..."]]
"""What a graph gives, by the output's name."""


def run_graph(model: bytes | Path, images: Float[np.ndarray, "n c h w"], threads: int = 1) -> Outputs:
    """What ONNX Runtime gives for images in [-1, 1], on the processor. Raises OnnxError where it is missing."""
    runtime = optional("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {IMAGES: images}), strict=True))


def outputs_of(predictor: Predictor, images: Float[np.ndarray, "n c h w"]) -> Outputs:
    """The same outputs by the release itself."""
    logits, scores = predictor.outputs(torch.from_numpy(images), [VERDICT])
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    by_name = {LOGITS: logits, PROBABILITIES: logits.softmax(1), **scores}
    outputs = {name: values.numpy() for name, values in by_name.items()}
    return {**outputs, IS_OOD: outputs[VERDICT].astype(np.float64) > threshold}


def largest_difference(predictor: Predictor, images: Float[np.ndarray, "n c h w"], outputs: Outputs) -> float:
    """The largest difference between a graph's outputs and the release's, as a share of the largest of their kind.

    Raises:
        OnnxError: an output is missing, or the graph decides otherwise on an image that is not next to the threshold.
    """
    expected = outputs_of(predictor, images)
    if outputs.keys() != expected.keys():
        raise OnnxError(f"the graph gives {', '.join(outputs)}; {', '.join(expected)} are expected")
    score, threshold = expected[VERDICT], predictor.references[VERDICT].threshold(predictor.alpha)
    clear = np.abs(score - threshold) > TOLERANCE * np.abs(score).max(initial=0)
    changed = (outputs[IS_OOD] != expected[IS_OOD]) & clear
    if changed.any():
        raise OnnxError(f"the graph decides otherwise on {changed.sum()} of {len(changed)} images")
    return max(relative_difference(outputs[name], expected[name]) for name in expected if name != IS_OOD)
