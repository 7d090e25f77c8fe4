"""Shares: disjoint, complete, the same on every machine."""

import numpy as np
import pytest
import torch

from fedlmd.data import DataError, LabelledImages, PartitionConfig, partition

LISTS = (("a", "b"), ("b", "c"), ("b",))
CONFIGS = [
    PartitionConfig("labels", workers=3, lists=LISTS, seed=5),
    PartitionConfig("iid", workers=3, seed=5),
    PartitionConfig("dirichlet", workers=3, alpha=0.5, seed=5),
]


def labelled(*counts):
    """Images that differ in their pixel values."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pixels = torch.arange(2 * len(labels), dtype=torch.int64).remainder(256).to(torch.uint8).reshape(-1, 1, 1, 2)
    pixels[:, 0, 0, 1] = (torch.arange(len(labels)) // 128).to(torch.uint8)
    return LabelledImages(pixels, labels, tuple("abcdefgh"[: len(counts)]))


def identities(share):
    return [tuple(pixels) for pixels in share.pixels[:, 0, 0].tolist()]


def shares(dataset, config):
    return [partition(dataset, config, worker) for worker in range(config.workers)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_shares_have_no_image_in_common_and_none_is_lost(config):
    dataset = labelled(100, 80, 60)
    held = [identity for share in shares(dataset, config) for identity in identities(share)]
    assert sorted(held) == sorted(identities(dataset))
    assert len(set(held)) == 240


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_the_same_seed_gives_the_same_shares_and_another_seed_others(config):
    dataset = labelled(100, 80, 60)
    other = PartitionConfig(config.kind, config.workers, config.lists, config.alpha, seed=6)
    first, again, changed = (identities(partition(dataset, c, 1)) for c in (config, config, other))
    assert first == again
    assert first != changed


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_a_share_keeps_all_names_and_each_image_its_label(config):
    dataset = labelled(100, 80, 60)
    label_of = dict(zip(identities(dataset), dataset.labels.tolist(), strict=True))
    for share in shares(dataset, config):
        assert share.names == dataset.names
        assert [label_of[identity] for identity in identities(share)] == share.labels.tolist()


def test_none_gives_every_worker_everything():
    dataset = labelled(3, 4)
    assert torch.equal(partition(dataset, PartitionConfig(workers=2), 1).pixels, dataset.pixels)


def test_workers_that_list_the_same_label_share_it_evenly():
    counts = [share.labels.bincount(minlength=4).tolist() for share in shares(labelled(10, 80, 7, 5), CONFIGS[0])]
    assert counts == [[10, 27, 0, 0], [0, 27, 7, 0], [0, 26, 0, 0]]


def test_iid_shares_differ_by_one_image_at_most_and_are_shuffled():
    parts = shares(labelled(100, 100), PartitionConfig("iid", workers=3))
    assert [len(share) for share in parts] == [67, 67, 66]
    assert all(20 < count < 47 for share in parts for count in share.labels.bincount().tolist())


def test_dirichlet_divides_each_label_in_the_proportions_that_were_drawn():
    config = PartitionConfig("dirichlet", workers=4, alpha=0.5, seed=2)
    counts = np.stack([share.labels.bincount(minlength=2).numpy() for share in shares(labelled(1000, 500), config)])
    for label, size in enumerate((1000, 500)):
        rng = np.random.default_rng([2, label])
        rng.permutation(size)
        assert np.abs(counts[:, label] - size * rng.dirichlet([0.5] * 4)).max() <= 1


def test_a_small_alpha_separates_the_labels_and_a_large_one_mixes_them():
    def largest(alpha):
        sizes = []
        for seed in range(20):
            config = PartitionConfig("dirichlet", workers=2, alpha=alpha, seed=seed)
            try:
                first = len(partition(labelled(1000), config, 0))
            except DataError:  # an empty share
                first = 0
            sizes.append(max(first, 1000 - first))
        return np.mean(sizes)

    assert largest(0.01) > 950
    assert largest(1000.0) < 550


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "random"}, "kind is 'random'; choose one of none, labels, iid, dirichlet"),
        ({"workers": 0}, "workers is 0; it is 1 or more"),
        ({"alpha": 0.0}, "alpha is 0.0; it is above 0"),
        ({"alpha": float("inf")}, "alpha is inf; it is above 0"),
        ({"seed": -1}, "seed is -1; it is 0 or more"),
        ({"kind": "labels", "workers": 2, "lists": (("a",),)}, "2 workers need 2 lists of labels, not 1"),
        ({"kind": "labels", "workers": 2, "lists": (("a",), ())}, "worker 1's list is empty"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PartitionConfig(**settings)


@pytest.mark.parametrize("worker", [-1, 3])
def test_a_worker_that_does_not_exist_is_refused(worker):
    with pytest.raises(DataError, match="workers 0 to 2"):
        partition(labelled(9), PartitionConfig("iid", workers=3), worker)


def test_an_unknown_label_in_any_workers_list_is_named():
    config = PartitionConfig("labels", workers=2, lists=(("a",), ("z",)))
    with pytest.raises(DataError, match="no label 'z'; there are a, b"):
        partition(labelled(3, 3), config, 0)


def test_an_empty_share_is_refused():
    with pytest.raises(DataError, match="worker 2's share has no image"):
        partition(labelled(2), PartitionConfig("iid", workers=3), 2)
