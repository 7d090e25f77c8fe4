"""The graph: images to logits, probabilities, the scores of the verdict, and whether each image is unknown."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedlmd.detection import DENOISING
from fedlmd.inference.predictor import Predictor
from fedlmd.models import Ensemble
from fedlmd.release import LOGITS, VERDICT

OPSET = 20
"""Version of ONNX's operators: that of 2024, which ONNX Runtime 1.17 and later run."""

IMAGES, PROBABILITIES, IS_OOD = "images", "probabilities", "is_ood"

MOST_STEPS = 8
"""LMD's steps are written out one after the other, each with its copy of the denoiser; no more than so many."""

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
"""ONNX's operators that draw random numbers: a graph with one would not give an image the same score again."""


class OnnxError(ValueError):
    """A release that cannot be written as a graph. The message is one sentence for the user."""


class Tracing(TorchFunctionMode):
    """What makes of an evaluation a graph: fixed noise is a constant, and all images are one batch.

    The noise of a score is drawn by generators, which a graph has not; so it is recorded first, and given again while
    the evaluation is traced.

    Args:
        recorded: what is to be given for random draws, in this order; None draws and records.
    """

    def __init__(self, recorded: list[Tensor] | None = None) -> None:
        super().__init__()
        self.draws: list[Tensor] = []
        self.recorded = None if recorded is None else iter(recorded)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Call a function of torch."""
        if func is torch.split and isinstance(args[0].shape[0], torch.SymInt) and isinstance(args[1], int):
            # Batches of a fixed size, of a number of images that is not known yet.
            return (args[0],)
        drawing = func in (torch.rand, torch.randn)
        if drawing and self.recorded is not None:
            return next(self.recorded)
        result = func(*args, **(kwargs or {}))
        if drawing:
            self.draws.append(result)
        return result


class Graph(nn.Module):
    """What is exported: all that the predictor computes for its verdict.

    Args:
        predictor: the release.
        recorded: the random draws of one evaluation, in their order.
    """

    def __init__(self, predictor: Predictor, recorded: list[Tensor]) -> None:
        super().__init__()
        self.classifier, self.denoiser = predictor.networks.classifier, predictor.networks.denoiser
        self.predictor, self.recorded = predictor, recorded
        self.threshold = predictor.references[VERDICT].threshold(predictor.alpha)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """What the graph gives for images in [-1, 1], see ``output_names``."""
        with Tracing(self.recorded):
            logits, scores = self.predictor.outputs(images, [VERDICT])
        by_name = {LOGITS: logits, PROBABILITIES: logits.softmax(1), **scores}
        # Compared in double precision, as a prediction does.
        by_name[IS_OOD] = scores[VERDICT].double() > self.threshold
        return tuple(by_name[name] for name in output_names(self.predictor))


def parts_of_verdict(predictor: Predictor) -> tuple[str, ...]:
    """The detectors whose standardised scores are added up."""
    return tuple(predictor.settings.detectors.verdict)


def output_names(predictor: Predictor) -> tuple[str, ...]:
    """The names of a graph's outputs."""
    return (LOGITS, PROBABILITIES, *parts_of_verdict(predictor), VERDICT, IS_OOD)


def graph_of(predictor: Predictor) -> bytes:
    """A release as an ONNX file, for batches of any size.

    Raises:
        OnnxError: the release's verdict or networks have no graph, or a package is missing.
    """
    refuse_branches(predictor)
    onnx = optional("onnx")
    optional("onnxscript")
    rules = predictor.settings.pixel_rules
    example = torch.zeros(2, rules.channels, rules.size, rules.size, device=predictor.networks.device)
    try:
        graph = Graph(predictor, drawn(predictor, example)).eval()
        with quiet():
            traced = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            program = torch.onnx.export(
                traced, input_names=[IMAGES], output_names=output_names(predictor), opset_version=OPSET, verbose=False
            )
    except Exception as error:  # what torch raises for a network of another package is not a closed list
        raise OnnxError(f"release {predictor.release.id} cannot be traced for ONNX: {reason(error)}") from error
    if program is None:
        raise OnnxError(f"release {predictor.release.id} cannot be written as ONNX by this version of torch")
    model = program.model_proto
    clean(model)
    onnx.helper.set_model_props(model, {"release": predictor.release.id})
    random = sorted({node.op_type for node in model.graph.node if node.op_type in RANDOM})
    if random:
        raise OnnxError(f"release {predictor.release.id} draws new random numbers for each image ({', '.join(random)})")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def refuse_branches(predictor: Predictor) -> None:
    """Refuse verdicts that a graph cannot hold, or only a very large one. Raises OnnxError."""
    names, denoiser = parts_of_verdict(predictor), predictor.networks.denoiser
    if isinstance(denoiser, Ensemble) and set(names) & set(DENOISING):
        raise OnnxError(
            f"release {predictor.release.id} keeps {len(denoiser.members)} workers' denoisers and chooses between them "
            "for each image, which a graph does not; export a release whose denoisers were averaged, or calibrate this "
            "one with a verdict without one-step and lmd"
        )
    steps = predictor.settings.detector.lmd.inpainting.steps
    if "lmd" in names and steps > MOST_STEPS:
        raise OnnxError(
            f"the verdict of release {predictor.release.id} has LMD of {steps} steps, and each would be a copy of the "
            f"denoiser in the graph, of which {MOST_STEPS} at most are written; calibrate it with fewer steps, or with "
            "a verdict without lmd"
        )


def drawn(predictor: Predictor, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
    """The random draws of one evaluation. Those of a score do not depend on the images or their number."""
    with Tracing() as tracing:
        predictor.outputs(images, [VERDICT])
    return [draw.clone() for draw in tracing.draws]


def clean(model: Any) -> None:  # noqa: ANN401 - onnx is optional
    """Take out what the exporter notes of this machine: each node's place in the source, with its path."""
    for graph in (model.graph, *model.functions):
        for entry in (*graph.node, *graph.value_info, graph):
            del entry.metadata_props[:]
            entry.doc_string = ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of the exporter, which are about its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def optional(package: str) -> ModuleType:
    """A package of the extra ``onnx``. Raises OnnxError where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise OnnxError(f"ONNX needs {package}, which the extra has: pip install 'fedlmd[onnx]'") from None


def reason(error: BaseException) -> str:
    """The first line of an error's innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
