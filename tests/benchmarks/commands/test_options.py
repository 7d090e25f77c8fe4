import pytest

from benchmarks.commands.options import pairs


def test_names_and_paths_are_taken_apart():
    assert [(name, str(path)) for name, path in pairs(["usps=a/b=c.npz", "x=pretrained"])] == [
        ("usps", "a/b=c.npz"),
        ("x", "pretrained"),
    ]
    assert pairs(None) == []
    for wrong in ("usps", "usps=", "=file"):
        with pytest.raises(ValueError, match="is not NAME=PATH"):
            pairs([wrong])
