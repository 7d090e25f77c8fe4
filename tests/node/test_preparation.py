import time
from importlib.metadata import version

import pytest

from fedlmd.data import Facts, PixelRules
from fedlmd.federation.announcement import Announcement
from fedlmd.federation.worker_list import WorkerList
from fedlmd.node.preparation import settle, wait_for_images
from fedlmd.service.contract import Refused
from fedlmd.settings import from_mapping

PHOTOGRAPHS = Facts(images=400, side=100.0, colour=1.0, oblong=0.5)
DIGITS = Facts(images=400, side=28.0, plain=1.0)


def announced(*workers):
    """The workers of a server to which each of these, given by labels and facts, has announced itself."""
    server = WorkerList()
    for number, (labels, facts, problem) in enumerate(workers):
        images = facts.to_json() if facts else None
        fields = {"labels": labels, "images": images, "problem": problem}
        its = Announcement(f"client{number}", str(number), version("fedlmd"), version("flwr"), time.time(), **fields)
        assert server.announce(its) is None
    return server


def test_rules_are_chosen_by_the_images_of_all_workers():
    workers = announced((("a", "b"), PHOTOGRAPHS, None), (("a", "c"), PHOTOGRAPHS, None)).list()
    settings, notes = settle(from_mapping({"labels": ["a", "b", "c"], "encoder": {"name": "pixels"}}), workers)
    assert settings.pixel_rules == PixelRules(32, 3, fit="crop")
    assert settings.is_resolved
    assert [note for note in notes if "from 100 to 32 pixels" in note]


def test_photographs_get_an_encoder_and_its_latents_the_networks_that_suit_them():
    workers = announced((("a", "b"), PHOTOGRAPHS, None)).list()
    settings, notes = settle(from_mapping({"labels": ["a", "b"]}), workers)
    assert settings.pixel_rules == PixelRules(160, 3, fit="crop")
    assert (settings.encoder.name, settings.encoder.features, settings.encoder.side) == ("efficientnet-lite0", 304, 10)
    assert settings.detector.verdict == ("mahalanobis", "descriptor", "thumbnail")
    assert settings.models.views == 1
    assert settings.is_resolved
    assert [note for note in notes if "efficientnet-lite0" in note]


def test_rules_that_a_run_sets_are_kept():
    workers = announced((("a", "b"), PHOTOGRAPHS, None)).list()
    settings, _ = settle(from_mapping({"labels": ["a", "b"], "channels": 1, "image_size": 28}), workers)
    assert (settings.image_size, settings.channels) == (28, 1)


def test_labels_of_two_workers_that_differ_only_in_case_are_refused():
    workers = announced((("cat", "dog"), DIGITS, None), (("Cat", "dog"), DIGITS, None)).list()
    with pytest.raises(Refused, match="worker 'client1' has the label 'Cat' and the run has 'cat'"):
        settle(from_mapping({"labels": ["cat", "dog"]}), workers)
    with pytest.raises(Refused, match="worker 'client1' has the label 'Cat' and worker 'client0' has 'cat'"):
        settle(from_mapping({"labels": ["dog", "bird"]}), workers)


def test_too_few_images_of_all_workers_are_refused_before_training():
    few = ({"a": 10, "b": 5}, DIGITS, None), ({"a": 9, "c": 1000}, DIGITS, None)
    with pytest.raises(Refused, match=r"the workers have 24 images of these labels .* needs 19 images to calibrate"):
        settle(from_mapping({"labels": ["a", "b"]}), announced(*few).list())
    settle(from_mapping({"labels": ["a", "b"], "calibration": {"alpha": 0.1}}), announced(*few).list())
    # Where a worker lets nobody know its counts, only its calibration can tell.
    settle(from_mapping({"labels": ["a", "b"]}), announced(few[0], (("a",), DIGITS, None)).list())


def test_facts_that_cannot_be_are_refused_by_the_name_of_their_worker():
    server = announced((("a", "b"), DIGITS, None))
    lie = Announcement("client9", "9", version("fedlmd"), version("flwr"), time.time(), images={"side": -1})
    assert server.announce(lie) is None
    with pytest.raises(Refused, match="worker 'client9': sides of images lie in"):
        settle(from_mapping({"labels": ["a", "b"]}), server.list())


def test_a_worker_that_takes_no_part_is_named_with_the_reason_and_its_labels_count_for_nothing():
    server = announced((("a", "b"), DIGITS, None), (("A", "b"), PHOTOGRAPHS, "its folder is empty"))
    settings, notes = settle(from_mapping({"labels": ["a", "b"]}), server.list())
    assert settings.channels == 1
    assert notes[0] == "worker 'client1' takes no part: its folder is empty"
    other = Announcement("client0", "other", version("fedlmd"), version("flwr"), time.time())
    assert server.announce(other) is not None
    _, notes = settle(from_mapping({"labels": ["a", "b"]}), server.list())
    assert any("takes no part: another worker is connected under the name" in note for note in notes)


def test_a_run_waits_for_workers_whose_images_are_usable():
    server = announced((("a", "b"), DIGITS, None), (("a", "b"), DIGITS, "its folder is empty"), (None, None, None))
    counts = []
    ready = wait_for_images(server.list, 3, 0.0, counts.append, lambda: False)
    assert ([worker.name for worker in ready], counts) == (["client0", "client2"], [2])
    with pytest.raises(Refused, match="no worker with usable images has connected within 0 s"):
        wait_for_images(announced().list, 1, 0.0, counts.append, lambda: False)
    with pytest.raises(Refused, match="all connected workers keep back what their images look like"):
        wait_for_images(announced((None, None, None)).list, 1, 0.0, counts.append, lambda: False)


def test_waiting_ends_when_the_run_is_stopped():
    server = announced((("a", "b"), DIGITS, None))
    start = time.monotonic()
    wait_for_images(server.list, 2, 60.0, lambda _: None, lambda: True)
    assert time.monotonic() - start < 5
