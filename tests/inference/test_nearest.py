import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors

from fedlmd.data import LabelledImages, load, some
from fedlmd.inference import NearestImages, Predictor
from fedlmd.inference.nearest import SIDE, smaller
from fedlmd.release import load_release
from fedlmd.release.shipped import SHIPPED


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_release(SHIPPED["pretrained"]))


@pytest.fixture(scope="module")
def known():
    return some(load("mnist", "eval"), 150)


def test_the_nearest_are_those_of_scikit_learn(predictor, known):
    searched = NearestImages(predictor, known, known)
    image = some(load("mnist", "train"), 1).images()
    with torch.inference_mode():
        vectors = [F.normalize(predictor.inputs.gaussian_features(each)).numpy() for each in (known.images(), image)]
    distances, positions = NearestNeighbors(n_neighbors=4).fit(vectors[0]).kneighbors(vectors[1])
    nearest = searched.nearest(image, 4)
    assert [each.distance for each in nearest] == pytest.approx(distances[0].tolist(), abs=1e-4)
    for each, position in zip(nearest, positions[0].tolist(), strict=True):
        assert torch.equal(each.pixels, known.pixels[position])
        assert each.label == known.names[int(known.labels[position])]


def test_an_image_is_nearest_to_itself(predictor, known):
    nearest = NearestImages(predictor, known, known).nearest(known.images([7]), 1000)
    assert len(nearest) == len(known)
    assert nearest[0].distance == pytest.approx(0, abs=2e-3)
    assert torch.equal(nearest[0].pixels, known.pixels[7])


def test_large_images_are_reduced_to_their_means():
    pixels = torch.randint(0, 256, (3, 3, 2 * SIDE, 2 * SIDE), dtype=torch.uint8)
    reduced = smaller(LabelledImages(pixels, torch.zeros(3, dtype=torch.int64), ("a",))).pixels
    means = pixels.float().unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    assert reduced.shape == (3, 3, SIDE, SIDE)
    assert torch.allclose(reduced.float(), means, atol=0.51)


def test_inputs_of_other_images_are_refused(predictor, known):
    with pytest.raises(ValueError, match="not of the same known images"):
        NearestImages(predictor, known, known.take(range(len(known) - 1, -1, -1)))
