import pytest
import torch

from benchmarks.heat import HeatConfig, PatchHeat, heat_in_patches, over_chance, paste
from fedlmd.inference.predictor import Predictor
from fedlmd.progress import drain
from fedlmd.release import PRETRAINED_FOLDER, load_release
from fedlmd.worker.images import WorkerConfig


def test_heat_over_chance_by_hand():
    even = torch.ones(28, 28)
    assert over_chance(even, (3, 4), 7) == pytest.approx(1)
    half = torch.zeros(28, 28)
    half[0, 0] = half[9, 9] = 2.0
    assert over_chance(half, (5, 5), 7) == pytest.approx(0.5 * 784 / 49)
    assert over_chance(torch.zeros(28, 28), (5, 5), 7) == 0


def test_a_patch_is_another_images_and_all_around_it_stays():
    images = torch.rand(12, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pasted = paste(images, HeatConfig(side=0.25))
    assert pasted.side == 5
    assert len(set(pasted.places)) > 6
    for number, (y, x) in enumerate(pasted.places):
        inside = torch.zeros(20, 20, dtype=torch.bool)
        inside[y : y + 5, x : x + 5] = True
        assert torch.equal(pasted.images[number][:, ~inside], images[number][:, ~inside])
        donors = [of for of in range(12) if torch.equal(images[of][:, inside], pasted.images[number][:, inside])]
        assert len(donors) == 1
        assert donors != [number]
        assert (pasted.images[number] - images[number])[:, inside].square().mean() >= 0.5
    again = paste(images, HeatConfig(side=0.25))
    assert torch.equal(again.images, pasted.images)
    assert not torch.equal(paste(images, HeatConfig(side=0.25, seed=1)).images, pasted.images)


def test_images_that_are_all_alike_have_no_patch_to_paste():
    with pytest.raises(ValueError, match=r"in 1000 draws no patch differed by 0\.5 from image 0; give other images"):
        paste(torch.zeros(3, 1, 8, 8), HeatConfig())
    with pytest.raises(ValueError, match="give two images or more"):
        paste(torch.zeros(1, 1, 8, 8), HeatConfig())


@pytest.mark.parametrize("wrong", [{"side": 0.0}, {"side": 1.0}, {"difference": 4.0}, {"difference": -0.1}])
def test_impossible_patches_are_refused(wrong):
    with pytest.raises(ValueError, match="it lies"):
        HeatConfig(**wrong)


def test_the_figures_are_means_over_the_images():
    found = PatchHeat(torch.tensor([1.0, 2.0, 6.0, 4.0]), torch.tensor([0.0, 1.0, 1.0, 2.0]))
    assert found.figures == {
        "heat_in_patch_over_chance": 3.25,
        "heat_before_over_chance": 1.0,
        "images_twice_over_chance": 0.75,
    }


def test_the_shipped_releases_heat_lies_on_what_was_pasted_in_more_than_twice_as_much_as_by_chance():
    predictor = Predictor(load_release(PRETRAINED_FOLDER))
    images = WorkerConfig("bench").images(predictor.settings).held_back.images(range(8))
    steps = []
    found = drain(heat_in_patches(predictor, images), steps.append)
    assert len(steps) == len(found.pasted) == 8
    figures = found.figures
    assert figures["heat_in_patch_over_chance"] > 2.5
    assert figures["heat_in_patch_over_chance"] > 1.4 * figures["heat_before_over_chance"]
