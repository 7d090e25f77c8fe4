"""The folder of encoders and the digests of what lies in it."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from fedlmd.models.encoders import EncoderError, encoders_folder
from fedlmd.models.encoders.files import digest, located


def test_the_folder_is_the_given_one_or_that_of_the_environment_or_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FEDLMD_ENCODERS", raising=False)
    assert encoders_folder() == tmp_path / ".fedlmd" / "encoders"
    monkeypatch.setenv("FEDLMD_ENCODERS", "~/nets")
    assert encoders_folder() == tmp_path / "nets"
    assert encoders_folder(Path("here")) == Path("here")


def test_a_file_is_found_in_the_folder_and_below_it(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("a.pt", "below/b.pt"):
        (tmp_path / name).touch()
        assert located(name, tmp_path) == tmp_path / name


def test_for_a_missing_file_the_folder_is_said_and_that_nothing_is_downloaded(tmp_path):
    with pytest.raises(EncoderError) as caught:
        located("a.pt", tmp_path)
    assert str(caught.value) == (
        f"there are no weights 'a.pt' in the folder of encoders, {tmp_path}; copy them there, or name another folder "
        "by the environment variable FEDLMD_ENCODERS; nothing is downloaded"
    )


@pytest.mark.parametrize("target", ["../outside.pt", ".."])
def test_a_link_that_leads_outside_of_the_folder_is_refused(tmp_path, target):
    (tmp_path / "outside.pt").touch()
    folder = tmp_path / "encoders"
    folder.mkdir()
    (folder / "a.pt").symlink_to(target)
    with pytest.raises(EncoderError, match=r"the weights 'a.pt' lie outside of the folder of encoders"):
        located("a.pt", folder)


def test_the_digest_of_a_file_is_its_sha_256_and_follows_its_changes(tmp_path):
    path = tmp_path / "a.pt"
    for content in (b"first", b"second one"):
        path.write_bytes(content)
        assert digest(path) == hashlib.sha256(content).hexdigest()
    path.write_bytes(b"second two")  # as long as before
    os.utime(path, ns=(0, 0))
    assert digest(path) == hashlib.sha256(b"second two").hexdigest()


def test_the_digest_of_a_folder_is_that_of_the_list_of_sha256sum(tmp_path):
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(name)
    before = digest(tmp_path)
    (tmp_path / "README.md").write_text("not read")
    listed = subprocess.run(
        "LC_ALL=C; sha256sum *.json *.safetensors | sort -k 2",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert digest(tmp_path) == before == hashlib.sha256(listed.stdout).hexdigest()
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert digest(tmp_path) != before


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"has no file \*.json or \*.safetensors; copy all files of the model"):
        digest(tmp_path)
