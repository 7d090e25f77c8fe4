"""The settings of a demo with the user's images, as a TOML file that a person can read and go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedlmd.cli.demo.labels import label_lists
from fedlmd.settings import Settings, to_mapping


def with_source(
    mapping: Mapping[str, Any], source: str, labels: Sequence[str], workers: int, *, keep: bool
) -> dict[str, Any]:
    """Settings for a source: its labels and which worker has which.

    Args:
        mapping: the settings to begin with.
        source: the source.
        labels: to learn.
        workers: number of workers.
        keep: whether a partition that the settings have is kept.
    """
    data, lists = mapping.get("data", {}), label_lists(labels, workers)
    partition = dict(data.get("partition", {}))
    if not keep or partition.get("kind", "none") == "none":
        partition.pop("lists", None)
        partition |= {"kind": "iid", "workers": workers}
        if any(len(each) < len(labels) for each in lists):
            partition |= {"kind": "labels", "lists": lists}
    return {**mapping, "labels": list(labels), "data": {**data, "source": source, "partition": partition}}


def settings_text(mapping: Mapping[str, Any], settings: Settings, named: str) -> str:
    """The settings of a demo as TOML.

    Args:
        mapping: the settings, as ``with_source`` makes them.
        settings: the same without "auto".
        named: the source as the user named it.
    """
    full = to_mapping(settings)
    keys = ["labels", "image_size", "channels", "images", "encoder", "models", "detector"]
    if settings.has_latents:  # their defaults are others than those of images
        keys += ["classifier", "denoiser"]
    chosen = {key: full[key] for key in keys}
    rest = {key: value for key, value in mapping.items() if key not in chosen}
    return (
        f"# Written by: fedlmd demo --data {toml_value(named)}\n"
        "# The settings of the run and of each of its nodes. Labels that are not listed were kept unknown.\n"
        + toml_text({**chosen, **rest})
    )


def toml_text(values: Mapping[str, Any], place: str = "") -> str:
    """Nested tables as TOML; ``tomllib.loads`` is its inverse.

    Args:
        values: texts, numbers, booleans, lists of them, and tables; keys of letters, digits, "_" and "-".
        place: of the table, such as "data.partition"; "" for the top.
    """
    plain = [f"{key} = {toml_value(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    head = [f"[{place}]"] if place and plain else []
    own = ["\n".join([*head, *plain]) + "\n"] if plain else []
    tables = [
        toml_text(value, f"{place}.{key}".lstrip(".")) for key, value in values.items() if isinstance(value, Mapping)
    ]
    return "\n".join(own + [text for text in tables if text])


def toml_value(value: object) -> str:
    """A value as TOML writes it: as JSON does, but that TOML also escapes the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
