"""Feature vectors: what L2-normalising them keeps."""

import torch

from fedlmd.detection.features import l2_normalised


def test_l2_normalised_features_have_a_mean_square_of_one():
    vectors = l2_normalised(lambda images: images.flatten(1))(torch.tensor([[3.0, 4.0], [0.3, 0.4]])[:, :, None, None])
    torch.testing.assert_close(vectors, 2**0.5 * torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
