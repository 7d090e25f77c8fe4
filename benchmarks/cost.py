"""What a prediction costs: operations counted, seconds measured, the machine's rate, and the paper's detector."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fedlmd.detection import PAPER
from fedlmd.inference import Predictor
from fedlmd.models import DenoiserConfig, Ensemble, Networks, UNet

REFERENCE = DenoiserConfig(image_size=32, channels=3, widths=(128, 256, 256, 256), blocks=3, patch=1)
"""Our network in the size of the paper's (36M parameters, about 11.5 GFLOP for a 3x32x32 image): the largest number of
blocks with which it exceeds neither, so that the paper's cost is never overstated."""


@dataclass(frozen=True)
class CostConfig:
    """How costs are measured.

    Args:
        images: length of the stream of single images, half of them unknown; 2 or more.
        matrix: side of the matrices whose product gives the machine's rate.
        repeats: timings of which the median counts.
        reference: the network that the paper's detector is timed with.
    """

    images: int = 120
    matrix: int = 2048
    repeats: int = 7
    reference: DenoiserConfig = REFERENCE

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.images < 2 or self.matrix < 1 or self.repeats < 1:
            raise ValueError(
                f"images is {self.images}, matrix {self.matrix}, repeats {self.repeats}; they are at least 2, 1 and 1"
            )


@dataclass(frozen=True)
class ImageCost:
    """What one image costs on average.

    Args:
        gflop: floating-point operations in 10^9, a multiply-add being two; convolutions, matrix products, attention.
        evaluations: evaluations of the denoiser (NFE).
    """

    gflop: float
    evaluations: float


@dataclass(frozen=True)
class Rates:
    """Speeds of this machine in GFLOP/s, float32, on as many threads as torch has.

    Args:
        sgemm: of the product of two large square matrices, an upper bound.
        denoiser: of the denoiser on a batch of 64 images.
    """

    sgemm: float
    denoiser: float

    @property
    def fraction(self) -> float:
        """How much of the matrix product's rate the denoiser reaches."""
        return self.denoiser / self.sgemm


def gflop(call: Callable[[], object]) -> float:
    """Floating-point operations of a call in 10^9, counted as they are done."""
    # The counter does not know the processor's own form of attention.
    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_operations}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        call()
    return int(counter.get_total_flops()) / 1e9


def attention_operations(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object
) -> int:
    """Of two batched matrix products: queries by keys, and the weights that come out of it by values."""
    (*heads, rows, width), columns = query, key[-2]
    return 2 * math.prod(heads) * rows * columns * (width + value[-1])


def image_cost(networks: Networks, call: Callable[[], object], images: int) -> ImageCost:
    """Count operations, and what goes through the denoiser, per image.

    Args:
        networks: what the call computes with.
        call: scores the images.
        images: how many it scores.
    """
    evaluated = 0

    def count(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal evaluated
        evaluated += len(arguments[0])

    # An ensemble's members are evaluated one by one.
    denoisers = networks.denoiser.members if isinstance(networks.denoiser, Ensemble) else [networks.denoiser]
    hooks = [denoiser.register_forward_pre_hook(count) for denoiser in denoisers]
    try:
        operations = gflop(call)
    finally:
        for hook in hooks:
            hook.remove()
    return ImageCost(operations / images, evaluated / images)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Duration of a call in seconds; waits for a graphics processor."""

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def median_seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median duration of a call in seconds, after one that warms up."""
    call()
    return statistics.median(seconds(call, device) for _ in range(repeats))


@torch.inference_mode()
def rates(networks: Networks, *, size: int = 2048, batch: int = 64, repeats: int = 7) -> Rates:
    """Measure both rates alternately, so that whatever else the machine does slows both; medians.

    Args:
        networks: whose denoiser is measured.
        size: side of the matrices.
        batch: images at once.
        repeats: turns.
    """
    config, device = networks.denoiser.config, networks.device
    matrix = torch.randn(size, size, device=device)
    images = torch.randn(batch, config.channels, config.image_size, config.image_size, device=device)
    level = torch.full((batch,), 500, device=device)

    def product() -> Tensor:
        return matrix @ matrix

    def denoise() -> Tensor:
        v: Tensor = networks.denoiser(images, level)
        return v

    work = gflop(denoise)
    product()
    turns = [(seconds(product, device), seconds(denoise, device)) for _ in range(repeats)]
    products, evaluations = zip(*turns, strict=True)
    return Rates(2 * size**3 / 1e9 / statistics.median(products), work / statistics.median(evaluations))


def latency(predictor: Predictor, images: Float[Tensor, "n c h w"]) -> float:
    """Median seconds of a prediction, one image at a time."""
    predictor.predict(images[:1])
    device = predictor.networks.device
    return statistics.median(seconds(partial(predictor.predict, image), device) for image in torch.split(images, 1))


def reference_size(config: DenoiserConfig = REFERENCE) -> tuple[int, float]:
    """Parameters, and GFLOP of one evaluation of one image; counted without computing."""
    with torch.device("meta"):
        network = UNet(config)
        image = torch.empty(1, config.channels, config.image_size, config.image_size)
        level = torch.zeros(1, dtype=torch.int64)
    return sum(weight.numel() for weight in network.parameters()), gflop(lambda: network(image, level))


@torch.inference_mode()
def paper_seconds(
    device: torch.device, config: DenoiserConfig = REFERENCE, *, batches: tuple[int, ...] = (1, 10), repeats: int = 3
) -> float:
    """Seconds that one image takes as the paper has it: 10 reconstructions of 1000 evaluations each.

    One evaluation is timed, at that batch size at which an image comes cheapest, and multiplied.

    Args:
        device: where to compute.
        config: the network.
        batches: batch sizes to try.
        repeats: timings at each, of which the median counts.
    """
    network = UNet(config).eval().to(device)
    seconds_each = []
    for batch in batches:
        images = torch.randn(batch, config.channels, config.image_size, config.image_size, device=device)
        level = torch.full((batch,), 500, device=device)
        seconds_each.append(median_seconds(partial(network, images, level), repeats, device) / batch)
    return PAPER.evaluations * min(seconds_each)


def verdict_cost(
    predictor: Predictor,
    known: Float[Tensor, "n c h w"],
    unknown: Float[Tensor, "m c h w"],
    config: CostConfig | None = None,
) -> dict[str, Any]:
    """What a verdict costs on a stream that is half known and half unknown, beside what the paper's would.

    Args:
        predictor: the release.
        known: images of its labels.
        unknown: images of anything else.
        config: how to measure; with fewer images than it names, as many as there are of each kind.
    """
    config = config or CostConfig()
    half = min(config.images // 2, len(known), len(unknown))
    stream = torch.stack([known[:half], unknown[:half]], dim=1).flatten(0, 1)
    networks = predictor.networks
    verdict = image_cost(networks, lambda: predictor.predict(stream), len(stream))
    measured = rates(networks, size=config.matrix, repeats=config.repeats)
    p50, paper = latency(predictor, stream), paper_seconds(networks.device, config.reference)
    parameters, evaluation = reference_size(config.reference)
    return {
        "gflop_per_verdict": verdict.gflop,
        "nfe_per_verdict": verdict.evaluations,
        "ms_per_verdict_p50": 1000 * p50,
        "sgemm_gflop_per_second": measured.sgemm,
        "denoiser_gflop_per_second": measured.denoiser,
        "sgemm_fraction": measured.fraction,
        "lmd_paper_parameters": parameters,
        "lmd_paper_gflop_per_evaluation": evaluation,
        "lmd_paper_seconds": paper,
        "cost_ratio_lmd_paper": paper / p50,
        "images": len(stream),
        "threads": torch.get_num_threads(),
        "device": networks.device.type,
    }
