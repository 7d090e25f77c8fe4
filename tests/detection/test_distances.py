"""Distances, against scikit-image and by hand."""

import sys

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from fedlmd.detection.distances import LastCallCache, deep_feature, lpips_distance, mse, ssim_distance
from tests.diffusion.exact import digits, seeded


def test_the_squared_error_by_hand():
    a = torch.tensor([[[[-1.0, 1.0]]], [[[0.5, 0.0]]]])
    b = torch.tensor([[[[1.0, 1.0]]], [[[0.0, 0.0]]]])
    assert mse(a, b).tolist() == [2.0, 0.125]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.05, 0.5, 2.0])
def test_ssim_is_that_of_scikit_image(channels, strength):
    a = digits(4)[0].repeat(1, channels, 1, 1)
    b = (a + strength * seeded()(a.shape)).clamp(-1, 1)
    expected = [
        1 - structural_similarity(
            x.double().numpy(), y.double().numpy(), data_range=2, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(ssim_distance(a, b), torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-5)


def test_ssim_of_a_texture_and_its_negative_is_near_two():
    texture = 1.0 - 2 * ((torch.arange(28)[:, None] + torch.arange(28)) % 2)[None, None]
    assert ssim_distance(texture, -texture).item() == pytest.approx(2, abs=0.01)


def test_once_asks_again_only_for_another_tensor_even_if_it_is_equal():
    calls = []

    def doubled(x):
        calls.append(x)
        return 2 * x

    once, a, b = LastCallCache(doubled), torch.ones(2), torch.ones(2)
    for given in (a, a, b, b, a):
        assert torch.equal(once(given), 2 * given)
    assert [images is a for images in calls] == [True, False, True]


def test_deep_features_by_hand_on_a_linear_map():
    # Two features per pixel: the pixel and 1. Of unit length that is (cos, sin) of an angle.
    def maps(x):
        return [torch.cat([x, torch.ones_like(x)], 1)]

    a, b = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.0, -1.0]]]])
    # Pixel 0 is equal; at pixel 1 (1, 1) and (-1, 1) stand at right angles: distance sqrt(2), squared 2.
    assert deep_feature(maps, (0,))(a, b).item() == pytest.approx(1.0)


def test_deep_features_ignore_the_features_length_and_sum_over_stages():
    weight = seeded()((8, 1, 3, 3))

    def maps(x):
        return [F.conv2d(x, weight), 7 * F.conv2d(x, weight)]

    a, b = digits(3)[0], digits(3, first=3)[0]
    one, other, both = (deep_feature(maps, stages)(a, b) for stages in ((0,), (1,), (0, 1)))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(both, 2 * one)
    assert ((one > 0) & (one <= 4)).all()


def test_deep_features_of_nothing_at_all_are_finite():
    blank = torch.zeros(2, 1, 4, 4)
    assert deep_feature(lambda x: [x], (0,))(blank, blank + 1).tolist() == [1.0, 1.0]


def test_lpips_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ValueError, match=r"'lpips' needs the extra: pip install 'fedlmd\[lpips\]'"):
        lpips_distance()
