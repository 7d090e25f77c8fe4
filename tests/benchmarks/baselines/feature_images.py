"""Images whose pixels are their features, for detectors on features."""

import torch


def table(rows, columns, shift):
    """Numbers that look random and are not."""
    i = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)
    return torch.sin(1.7 * i + shift + 0.01 * i * i)


def as_images(vectors):
    return vectors.float()[:, :, None, None]


def features(images):
    return images.flatten(1)


DOMAIN, QUERIES = as_images(table(24, 6, 0.0)), as_images(1.5 * table(4, 6, 0.5))


def check_batches(detector):
    """Whether an image has its own score, in single precision, whatever its batch."""
    scores = detector.score(QUERIES)
    assert scores.dtype == torch.float32
    for i in range(4):
        torch.testing.assert_close(detector.score(QUERIES[i : i + 1]), scores[i : i + 1])
    torch.testing.assert_close(detector.score(QUERIES.flip(0)), scores.flip(0))
