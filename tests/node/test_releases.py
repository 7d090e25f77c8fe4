import pytest

from fedlmd import artifacts
from fedlmd.node import PRETRAINED_FOLDER, SHIPPED
from fedlmd.node.releases import Shelf
from fedlmd.service import PRETRAINED, Unavailable, UnknownRelease


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "releases")


def test_an_empty_shelf_has_no_current_release_but_the_shipped_one(shelf):
    assert shelf.current is None
    with pytest.raises(Unavailable, match="release=pretrained"):
        shelf.answerer(None)
    assert shelf.answerer(PRETRAINED).settings.labels == ("0", "1", "2", "3", "4")


def test_an_unknown_release_is_refused_with_those_that_there_are(shelf):
    with pytest.raises(UnknownRelease, match="pretrained"):
        shelf.answerer("feedfacecafe")
    with pytest.raises(UnknownRelease):
        shelf.use("../releases")


def test_the_shipped_release_can_be_made_the_current_one(shelf):
    shelf.use(PRETRAINED)
    assert shelf.current == artifacts.load(PRETRAINED_FOLDER).id
    assert shelf.answerer(None) is shelf.answerer(shelf.current)
    mine, *shipped = shelf.summaries()
    assert (mine.current, mine.pretrained) == (True, False)
    assert [(of.current, of.pretrained) for of in shipped] == [(False, True)] * 2


@pytest.mark.parametrize(("name", "labels"), [("digits-0-4", "01234"), ("digits-0-9", "0123456789")])
def test_every_shipped_release_answers_by_its_name_and_can_be_made_the_current_one(shelf, name, labels):
    assert shelf.answerer(name).settings.labels == tuple(labels)
    shelf.use(name)
    assert shelf.current == artifacts.load(SHIPPED[name]).id


def test_answers_are_calibrated_on_the_images_of_the_shelfs_own_site(tmp_path):
    shipped = artifacts.load(PRETRAINED_FOLDER)
    calibration = {**shipped.card["calibration"]}
    higher = {n: {**of, "values": [v + 5 for v in of["values"]]} for n, of in calibration["sketches"].items()}
    calibration["sites"] = {"client1": calibration["sketches"], "client2": higher}
    folder = artifacts.save(tmp_path, {**shipped.card, "calibration": calibration}, shipped.weights)
    artifacts.choose(tmp_path, folder.name)
    limits = [
        Shelf(tmp_path, name).answerer(None).sketches["verdict"].threshold(0.1) for name in ("client1", "client2")
    ]
    assert limits[1] - limits[0] == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("folder", sorted(set(SHIPPED.values())), ids=lambda folder: folder.name)
def test_the_shipped_releases_are_small_enough_to_ship(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4 * 2**20
