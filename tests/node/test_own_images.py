"""The check of a worker's own images, with real folders of images and the shipped digits."""

import logging
import threading

import pytest
from PIL import Image

from fedlmd.data import load, partition
from fedlmd.node.config import NodeConfig
from fedlmd.node.own_images import ImagesCheck, OwnImages, check_images
from fedlmd.settings import from_mapping


@pytest.fixture
def root(tmp_path):
    """A data root with a folder of 5 cats and 10 dogs."""
    for label, number in (("cat", 5), ("dog", 10)):
        folder = tmp_path / "root" / "pets" / label
        folder.mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (20, 30), (200, index, 9)).save(folder / f"{index}.png")
    return tmp_path / "root"


def checked(tmp_path, root=None, labels=None, worker=0, **data):
    settings = from_mapping({"data": data} | ({} if labels is None else {"labels": labels}))
    more = {} if root is None else {"data": root}
    return check_images(NodeConfig("w", "worker", tmp_path, settings, worker=worker, **more))


@pytest.mark.parametrize("source", ["pets", "absolute"])
def test_a_folder_is_usable_with_its_counts_whether_it_is_named_from_the_root_or_whole(tmp_path, root, source):
    result = checked(tmp_path, root, ["cat", "dog"], source=str(root / "pets") if source == "absolute" else source)
    assert (result.state, result.problem) == ("usable", None)
    assert result.labels == {"cat": {"train": 4, "eval": 1}, "dog": {"train": 8, "eval": 2}}
    assert (result.facts["images"], result.facts["side"], result.facts["colour"]) == (15, 20, 1)
    assert any("split off" in note for note in result.notes)


def test_default_labels_which_nobody_chose_refuse_no_source(tmp_path, root):
    assert checked(tmp_path, root, source="pets").state == "usable"


def test_a_source_without_any_of_the_chosen_labels_is_unusable_and_both_are_listed(tmp_path, root):
    result = checked(tmp_path, root, ["horse", "cow"], source="pets")
    assert result.state == "unusable"
    assert result.problem.endswith("no image of any of the settings' labels, 'horse', 'cow'; there are 'cat', 'dog'")
    assert list(result.labels) == ["cat", "dog"]


def test_a_source_with_some_of_the_labels_is_usable_and_the_missing_ones_are_noted(tmp_path, root):
    result = checked(tmp_path, root, ["cat", "cow"], source="pets")
    assert result.state == "usable"
    assert result.notes[-1].endswith("no image of the settings' labels 'cow'; there are 'cat', 'dog'")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing", "there is no data at"),
        ("../outside", "outside the data root"),
        ("/etc", "outside the data root"),
        ("empty", "empty"),
    ],
)
def test_a_source_that_cannot_be_read_is_unusable_with_the_reason(tmp_path, root, source, words):
    (root / "empty").mkdir()
    (tmp_path / "outside").mkdir()
    result = checked(tmp_path, root, ["cat", "dog"], source=source)
    assert (result.state, result.labels) == ("unusable", None)
    assert words in result.problem
    assert "\n" not in result.problem


def test_a_data_root_that_is_not_there_is_named_with_the_option(tmp_path):
    result = checked(tmp_path, tmp_path / "late")
    assert result.problem == (
        f"there is no data root {tmp_path / 'late'}; mount or make it, or name another with --data"
    )


@pytest.mark.parametrize("kind", ["labels", "iid", "dirichlet"])
def test_of_a_divided_source_a_worker_counts_its_own_share(tmp_path, kind):
    division = {"kind": kind, "workers": 2, "lists": [["0", "1"], ["1", "2"]] if kind == "labels" else [], "seed": 3}
    (tmp_path / "data").mkdir()
    settings = from_mapping({"labels": ["0", "1", "2"], "data": {"partition": division}})
    result = check_images(NodeConfig("w", "worker", tmp_path, settings, worker=1))
    for split in ("train", "eval"):
        share = partition(load("mnist", split), settings.data.partition, 1)
        expected = {name: int((share.labels == index).sum()) for index, name in enumerate(share.names)}
        assert {label: counts[split] for label, counts in result.labels.items()} == {
            label: count for label, count in expected.items() if count
        }


@pytest.mark.parametrize(
    ("announce", "labels", "facts"),
    [("counts", {"cat": 4, "dog": 8}, True), ("labels", ("cat", "dog"), True), ("nothing", None, False)],
)
def test_the_server_gets_what_the_settings_allow(tmp_path, root, announce, labels, facts):
    settings = from_mapping({"data": {"source": "pets", "announce": announce}})
    config = NodeConfig("w", "worker", tmp_path, settings, data=root)
    assert check_images(config).announced(settings.data) == (labels, check_images(config).facts if facts else None)
    assert OwnImages("checking").announced(settings.data) == (None, None)


def test_images_that_cannot_be_used_are_checked_again_and_logged_once(caplog):
    results = [OwnImages("unusable", "no folder"), OwnImages("unusable", "no folder"), OwnImages("usable", labels={})]
    changed, done = [], threading.Event()

    def on_change():
        changed.append(check.result.state)
        if check.result.state == "usable":
            done.set()

    check = ImagesCheck(lambda: results.pop(0), on_change, again=0.01)
    assert check.result.state == "checking"
    with caplog.at_level(logging.INFO):
        check.start()
        assert done.wait(10)
        check.thread.join(10)
    assert changed == ["unusable", "unusable", "usable"]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["this worker takes part in no run: no folder"]
    assert not check.thread.is_alive()
