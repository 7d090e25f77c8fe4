import pytest

from fedlmd import artifacts
from fedlmd.node import PRETRAINED_FOLDER
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
    mine, shipped = shelf.summaries()
    assert (mine.current, mine.pretrained) == (True, False)
    assert (shipped.current, shipped.pretrained) == (False, True)


def test_the_shipped_release_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in PRETRAINED_FOLDER.iterdir()) < 4 * 2**20
