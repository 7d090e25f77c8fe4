"""A worker's images of a run, and how it divides them."""

import pytest
import torch
from PIL import Image

from fedlmd.data import DataConfig, DataError, PartitionConfig, load
from fedlmd.progress import drain
from fedlmd.worker.images import WorkerConfig

LISTS = (("0", "1"), ("1", "2"))


def configs():
    shared = DataConfig(partition=PartitionConfig("labels", 2, LISTS))
    return [WorkerConfig(f"worker-{worker}", shared, worker) for worker in range(2)]


def paint(folder, shades):
    """A source of ten flat images for each label, each of its own shade."""
    for label, shade in shades.items():
        (folder / label).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (28, 28), shade + number).save(folder / label / f"{number}.png")


def test_each_worker_trains_on_its_own_share_under_the_runs_indices(tiny_settings):
    first, second = (config.images(tiny_settings) for config in configs())
    assert first.training.labels.unique().tolist() == first.evaluation.labels.unique().tolist() == [0, 1]
    assert second.training.labels.unique().tolist() == [1, 2]
    assert first.training.names == second.training.names == ("0", "1", "2")
    counts = [len(images.training) + len(images.held_back) for images in (first, second)]
    assert sum(counts) == 5923 + 6742 + 5958
    assert len(first.held_back) == pytest.approx(0.1 * counts[0], abs=2)


def test_a_worker_that_lacks_labels_of_the_run_keeps_their_indices(tiny_settings):
    alone = WorkerConfig("c", DataConfig(partition=PartitionConfig("labels", 1, (("2", "9"),))))
    assert alone.images(tiny_settings).training.labels.unique().tolist() == [2]


def test_a_worker_with_none_of_the_runs_labels_is_refused(tiny_settings):
    with pytest.raises(DataError, match="'cat'"):
        WorkerConfig("d").images(tiny_settings.with_labels(("cat", "dog")))


def test_no_image_is_used_for_both_training_and_calibration(tmp_path, tiny_settings):
    paint(tmp_path, {"0": 0, "1": 50, "2": 100})
    images = WorkerConfig("e", DataConfig(str(tmp_path), held_back=0.3)).images(tiny_settings)
    kept, held_back = (set(part.pixels[:, 0, 0, 0].tolist()) for part in (images.training, images.held_back))
    assert (len(kept), len(held_back)) == (18, 6)
    assert not kept & held_back


def test_the_seed_of_the_run_decides_what_is_held_back(tiny_settings):
    first, again = (configs()[0].images(tiny_settings).held_back.pixels for _ in range(2))
    assert torch.equal(first, again)


def test_a_share_is_the_same_whatever_labels_a_run_has(tiny_settings):
    config = WorkerConfig("f", DataConfig(partition=PartitionConfig("iid", 5)), 3)
    some = drain(config.split(tiny_settings.with_labels(("2", "1")), "train", "mnist", None, False))
    more = drain(config.split(tiny_settings, "train", "mnist", None, False))
    assert torch.equal(some.pixels, more.pixels[more.labels > 0])
    assert torch.equal(some.labels, 2 - more.labels[more.labels > 0])


def test_a_worker_evaluates_on_the_evaluation_split_or_on_the_source_that_is_named(tmp_path, tiny_settings):
    paint(tmp_path / "a", {"0": 0, "1": 100})
    paint(tmp_path / "b", {"1": 50, "2": 150})
    config = WorkerConfig("g", root=tmp_path)
    digits = load("mnist", "eval", labels=["0", "1", "2"])
    assert torch.equal(config.images(tiny_settings).evaluation.pixels, digits.pixels)
    assert config.images(tiny_settings, training="a").evaluation.labels.unique().tolist() == [0, 1]
    images = config.images(tiny_settings, training="a", evaluation="b")
    assert images.training.labels.unique().tolist() == [0, 1]
    assert images.evaluation.labels.unique().tolist() == [1, 2]


def test_a_source_outside_the_workers_root_is_refused(tmp_path, tiny_settings):
    with pytest.raises(DataError, match="leads outside the data root"):
        WorkerConfig("h", root=tmp_path).images(tiny_settings, training="/etc")


@pytest.mark.parametrize("present", ["Cat", "CAT"])
def test_a_label_in_another_case_than_that_of_the_run_is_refused(tmp_path, tiny_settings, present):
    paint(tmp_path, {present: 0, "dog": 100})
    config = WorkerConfig("site", DataConfig(str(tmp_path)))
    with pytest.raises(DataError, match=f"site has the label '{present}', the run has 'cat': if they are one, give"):
        config.images(tiny_settings.with_labels(("cat", "dog")))
    assert config.images(tiny_settings.with_labels((present, "dog"))).training.names == (present, "dog")


def test_a_label_that_is_alone_in_another_case_is_refused(tmp_path, tiny_settings):
    paint(tmp_path, {"Cat": 0})
    with pytest.raises(DataError, match="no label 'cat', but 'Cat', which differs only in case"):
        WorkerConfig("site", DataConfig(str(tmp_path))).images(tiny_settings.with_labels(("cat", "dog")))


def test_labels_of_a_run_are_those_of_folders_in_any_form_of_unicode(tmp_path, tiny_settings):
    paint(tmp_path, {"Ba\u0308r ": 0, "big  dog": 100})
    images = WorkerConfig("site", DataConfig(str(tmp_path))).images(tiny_settings.with_labels((" B\u00e4r", "big dog")))
    assert images.training.names == ("B\u00e4r", "big dog")
    assert images.training.labels.unique().tolist() == [0, 1]
