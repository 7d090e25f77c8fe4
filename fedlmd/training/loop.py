"""The one optimiser loop, for both networks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fedlmd.choices import between
from fedlmd.data import AUTO, as_float
from fedlmd.training.augmentation import AugmentationConfig, augment
from fedlmd.training.ema import Average
from fedlmd.training.objectives import Batch, Objective


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Args:
        steps: optimiser steps in all, 0 leaves the network as it is; in a federation they are divided over the rounds.
            "auto" chooses them by the number of a worker's images, see ``steps_for``.
        passes: how often each image comes up, where ``steps`` is "auto".
        fewest: steps then.
        most: steps then.
        batch_size: images per step.
        learning_rate: peak learning rate of AdamW.
        weight_decay: AdamW's decoupled decay per step, times the learning rate.
        warmup: steps of linear rise at every start, 0 or more.
        hold: share of the steps, in [0, 1], after which the learning rate falls linearly towards 2% of its peak.
        ema: decay of the weights' moving average per step, in [0, 1); 0 keeps the last weights.
        clip: largest norm of the gradient; longer ones are shortened to it.
        label_smoothing: of the classifier's cross-entropy, in [0, 1).
        label_dropout: share of images that the denoiser sees without a label, in [0, 1].
        augmentation: random distortions of the images.
        low_precision: compute in bfloat16 where the processor has matrix units for it; weights stay float32.
    """

    steps: int | str = 600
    passes: float = 20.0
    fewest: int = 300
    most: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    warmup: int = 20
    hold: float = 0.3
    ema: float = 0.98
    clip: float = 1.0
    label_smoothing: float = 0.0
    label_dropout: float = 0.25
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    low_precision: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.steps, str) and self.steps != AUTO:
            raise ValueError(f'steps is {self.steps!r}; it is a whole number or "auto"')
        between(self, 0, math.inf, *(() if isinstance(self.steps, str) else ("steps",)), "weight_decay", "warmup")
        between(self, 1, math.inf, "batch_size", "fewest")
        between(self, 0, math.inf, "passes", open_low=True)
        between(self, self.fewest, math.inf, "most")
        between(self, 0, math.inf, "learning_rate", "clip", open_low=True)
        between(self, 0, 1, "hold", "label_dropout")
        between(self, 0, 1, "ema", "label_smoothing", open_high=True)

    def steps_for(self, images: int) -> int:
        """Optimiser steps of the whole training on so many images.

        "auto": every image comes up ``passes`` times, within ``fewest`` and ``most`` steps.
        """
        if not isinstance(self.steps, str):
            return self.steps
        return max(self.fewest, min(self.most, math.ceil(self.passes * images / self.batch_size)))


@dataclass(frozen=True)
class Step:
    """One optimiser step: its number in the whole training (from 1), its loss, its learning rate."""

    step: int
    loss: float
    learning_rate: float


def batches(
    images: torch.Tensor, labels: torch.Tensor, config: TrainingConfig, generator: torch.Generator
) -> Iterator[Batch]:
    """Endless shuffled batches; in each pass over the images none comes up twice.

    Images are uint8 (N, C, H, W), or latents in half precision; labels class indices (N,). Batches are all of one
    size: the images left over at the end of a pass are not used in it.
    """
    size = min(config.batch_size, len(images))
    while True:
        order = torch.randperm(len(images), generator=generator)
        for chosen in torch.split(order, size):
            if len(chosen) == size:
                yield Batch(augment(as_float(images[chosen]), config.augmentation, generator), labels[chosen])


def train(
    model: nn.Module,
    objective: Objective,
    data: Iterable[Batch],
    config: TrainingConfig,
    *,
    first: int = 0,
    steps: int | None = None,
    total: int | None = None,
) -> Iterator[Step]:
    """Train in place; yields after every step and leaves the averaged weights in the model at the end.

    A caller that stops early keeps the weights of the last step.

    Args:
        model: float32 network, changed in place.
        objective: its loss.
        data: at least as many batches as steps.
        config: of the whole training.
        first: steps of the whole training that are done already, as in a later round of a federation.
        steps: steps to do now; None does all that are left.
        total: steps of the whole training, where the configuration leaves them open.
    """
    optimiser = torch.optim.AdamW(
        parameter_groups(model),
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=True,
    )
    average = Average(model, config.ema)
    device = next(model.parameters()).device
    whole = config.steps_for(0) if total is None else total
    last = whole if steps is None else min(whole, first + steps)
    model.train()
    for step, batch in zip(range(first, last), data, strict=False):
        rate = learning_rate(config, step, step - first, whole)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        with autocast(config.low_precision, device):
            loss = objective(model, Batch(batch.images.to(device), batch.labels.to(device)))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        average.update(model)
        yield Step(step + 1, loss.item(), rate)
    model.load_state_dict(average.weights)
    model.eval()


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameters by their share of the learning rate: ``rate_share`` of the innermost module that has one, else 1."""
    shares = {name: 1.0 for name, _ in model.named_parameters()}
    for name, module in model.named_modules():
        share = getattr(module, "rate_share", None)
        if share is not None:
            shares |= {f"{name}.{inner}" if name else inner: share for inner, _ in module.named_parameters()}
    parameters = dict(model.named_parameters())
    return [
        {"params": [parameters[name] for name in shares if shares[name] == share], "share": share}
        for share in sorted(set(shares.values()))
    ]


def learning_rate(config: TrainingConfig, step: int, since_start: int, steps: int) -> float:
    """The rate at one of so many steps: risen after ``warmup``, held, then falling linearly to 2% of the peak."""
    rise = min(1.0, (since_start + 1) / (config.warmup + 1))
    left = (steps - step) / max(1.0, (1 - config.hold) * steps)
    return config.learning_rate * rise * max(0.02, min(1.0, left))


def autocast(low_precision: bool, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 where it is faster: on GPUs, and on processors with matrix tiles (AMX); elsewhere it is emulated."""
    if low_precision and (device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16")):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
