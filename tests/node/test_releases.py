import pytest

from fedlmd.node.releases import LoadedReleases
from fedlmd.release import PRETRAINED_FOLDER, SHIPPED, load_release, save_release, set_current
from fedlmd.release.shipped import PRETRAINED
from fedlmd.service.contract import Unavailable, UnknownRelease


@pytest.fixture
def loaded_releases(tmp_path):
    return LoadedReleases(tmp_path / "releases")


def test_an_empty_folder_has_no_current_release_but_the_shipped_one(loaded_releases):
    assert loaded_releases.current is None
    with pytest.raises(Unavailable, match="release=pretrained"):
        loaded_releases.predictor(None)
    assert loaded_releases.predictor(PRETRAINED).settings.labels == ("0", "1", "2", "3", "4")


def test_an_unknown_release_is_refused_with_those_that_there_are(loaded_releases):
    with pytest.raises(UnknownRelease, match="pretrained"):
        loaded_releases.predictor("feedfacecafe")
    with pytest.raises(UnknownRelease):
        loaded_releases.use("../releases")


def test_the_shipped_release_can_be_made_the_current_one(loaded_releases):
    loaded_releases.use(PRETRAINED)
    assert loaded_releases.current == load_release(PRETRAINED_FOLDER).id
    assert loaded_releases.predictor(None) is loaded_releases.predictor(loaded_releases.current)
    mine, *shipped = loaded_releases.list()
    assert (mine.current, mine.pretrained) == (True, False)
    assert [(summary.current, summary.pretrained) for summary in shipped] == [(False, True)] * 2


@pytest.mark.parametrize(("name", "labels"), [("digits-0-4", "01234"), ("digits-0-9", "0123456789")])
def test_every_shipped_release_is_loaded_by_its_name_and_can_be_made_the_current_one(loaded_releases, name, labels):
    assert loaded_releases.predictor(name).settings.labels == tuple(labels)
    loaded_releases.use(name)
    assert loaded_releases.current == load_release(SHIPPED[name]).id


def test_predictions_are_calibrated_on_the_images_of_the_nodes_own_worker(tmp_path):
    shipped = load_release(PRETRAINED_FOLDER)
    calibration = {**shipped.card["calibration"]}
    higher = {
        name: {**sketch, "values": [value + 5 for value in sketch["values"]]}
        for name, sketch in calibration["sketches"].items()
    }
    calibration["sites"] = {"client1": calibration["sketches"], "client2": higher}
    folder = save_release(tmp_path, {**shipped.card, "calibration": calibration}, shipped.weights)
    set_current(tmp_path, folder.name)
    limits = [
        LoadedReleases(tmp_path, name).predictor(None).references["verdict"].threshold(0.1)
        for name in ("client1", "client2")
    ]
    assert limits[1] - limits[0] == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("folder", sorted(set(SHIPPED.values())), ids=lambda folder: folder.name)
def test_the_shipped_releases_are_small_enough_to_ship(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4 * 2**20
