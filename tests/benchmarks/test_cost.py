import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.cost import (
    REFERENCE,
    CostConfig,
    gflop,
    image_cost,
    latency,
    median_seconds,
    paper_seconds,
    rates,
    reference_size,
    verdict_cost,
)
from fedlmd.models import DenoiserConfig, UNet

CPU = torch.device("cpu")
TINY = DenoiserConfig(image_size=8, channels=1, widths=(8,), patch=1)


@pytest.fixture(scope="module")
def images():
    return torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_multiply_add_is_two_operations():
    convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(100, 50)
    # Every output pixel of every output channel takes 3 channels times 9 weights.
    assert gflop(lambda: convolution(torch.zeros(2, 3, 16, 16))) == pytest.approx(2 * 2 * 8 * 16 * 16 * 27 / 1e9)
    assert gflop(lambda: linear(torch.zeros(7, 100))) == pytest.approx(2 * 7 * 100 * 50 / 1e9)


def test_attention_is_counted():
    q = torch.zeros(1, 4, 49, 16)
    attention = torch.nn.functional.scaled_dot_product_attention
    # Two products of 49x16 by 16x49 and 49x49 by 49x16 in each of 4 heads.
    assert gflop(lambda: attention(q, q, q)) == pytest.approx(2 * 2 * 4 * 49 * 49 * 16 / 1e9)


def test_operations_are_counted_where_no_gradient_is_kept():
    network = UNet(TINY).eval()
    image, level = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        inferring = gflop(lambda: network(image, level))
    assert inferring == pytest.approx(gflop(lambda: network(image, level))) == pytest.approx(reference_size(TINY)[1])


def test_evaluations_of_the_denoiser_are_counted_by_image(predictor, images):
    denoiser, level = predictor.networks.denoiser, torch.zeros(8, dtype=torch.int64)

    def call():
        for part in (slice(0, 8), slice(0, 4)):
            denoiser(images[part], level[part])

    took = image_cost(predictor.networks, call, 8)
    assert took.evaluations == 12 / 8
    assert took.gflop == pytest.approx(gflop(call) / 8)
    assert image_cost(predictor.networks, lambda: None, 8).evaluations == 0


def test_the_reference_is_the_largest_that_is_no_more_expensive_than_the_papers_network():
    parameters, evaluation = reference_size()
    assert 25e6 < parameters <= 36e6
    assert 9 < evaluation <= 11.5
    larger = reference_size(replace(REFERENCE, blocks=REFERENCE.blocks + 1))
    assert larger[0] > 36e6
    assert larger[1] > 11.5


def test_the_median_of_durations_is_in_seconds():
    assert 0.01 <= median_seconds(lambda: time.sleep(0.01), 3, CPU) < 0.1


def test_the_papers_detector_takes_ten_thousand_evaluations():
    network = UNet(TINY).eval()
    image, level = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        one = median_seconds(lambda: network(image, level), 20, CPU)
    # A wide margin for a machine that does other things meanwhile.
    assert 1e4 * one / 8 < paper_seconds(CPU, TINY, batches=(1,), repeats=20) < 1e4 * one * 8


def test_the_rates_and_the_latency_are_positive_and_finite(predictor, images):
    measured = rates(predictor.networks, size=64, batch=4, repeats=3)
    assert measured.fraction == pytest.approx(measured.denoiser / measured.sgemm)
    assert 0 < measured.denoiser < 1e5
    assert 0 < latency(predictor, images) < 5


def test_a_verdicts_cost_is_that_of_half_known_half_unknown_images(predictor, images):
    config = CostConfig(images=6, matrix=64, repeats=1, reference=TINY)
    cost = verdict_cost(predictor, images, -images, config)
    stream = torch.cat([images[:3], -images[:3]])
    counted = image_cost(predictor.networks, lambda: predictor.predict(stream), 6)
    assert (cost["gflop_per_verdict"], cost["nfe_per_verdict"]) == pytest.approx((counted.gflop, counted.evaluations))
    assert cost["images"] == 6
    assert cost["cost_ratio_lmd_paper"] == pytest.approx(1000 * cost["lmd_paper_seconds"] / cost["ms_per_verdict_p50"])
    assert cost["lmd_paper_parameters"] == sum(weight.numel() for weight in UNet(TINY).parameters())
    with pytest.raises(ValueError, match="images is 1"):
        CostConfig(images=1)
