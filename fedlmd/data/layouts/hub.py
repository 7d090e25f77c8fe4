"""Image data sets of Hugging Face on disk, where the package ``pyarrow`` is installed: saved ones and Parquet files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from fedlmd.data.catalogue import Catalogue, JoinedPart, Part, PassedOver, numbered
from fedlmd.data.formats import Raw
from fedlmd.data.images import DataError, ImageError
from fedlmd.data.layouts.splits import arranged, split_of
from fedlmd.data.layouts.walk import held_inside

SAVED = ("dataset_dict.json", "state.json")
"""Files that ``save_to_disk`` writes beside a data set of several splits, and beside one split."""


@final
class TablePart(Part):
    """Images in a column of an Arrow table, which is mapped from its file and not read into memory.

    Args:
        images: the column: structs of "bytes" and "path", or binary values.
        labels: indices of labels.
        rows: which rows of the column these are.
        folder: relative paths start there; paths that lead out of it are refused.
    """

    def __init__(self, images: Any, labels: Int64[np.ndarray, " n"], rows: NDArray[Any], folder: Path) -> None:  # noqa: ANN401 - pyarrow has no types
        super().__init__(labels, rows)
        self.images, self.folder = images, folder

    def raw_of(self, row: int) -> Raw:
        """The bytes of an image. Raises ImageError."""
        value = self.images[row].as_py()
        entry = value if isinstance(value, dict) else {"bytes": value}
        data = entry.get("bytes")
        if isinstance(data, bytes):
            return data
        if not entry.get("path"):
            raise ImageError("it has neither bytes nor a path")
        try:
            return held_inside(self.folder / entry["path"], self.folder.resolve()).read_bytes()
        except OSError as error:
            raise ImageError(f"it cannot be read: {error.strerror}") from error

    def name_of(self, row: int) -> str:
        """The folder and the row."""
        return f"{self.folder}, row {row}"


def table_files(folder: Path) -> dict[str, list[Path]]:
    """The files of a Hugging Face data set by split; empty for a folder that is none.

    ``save_to_disk`` writes ``SPLIT/data-*.arrow`` beside dataset_dict.json, or data-*.arrow beside state.json; a
    repository holds ``SPLIT-*.parquet``, often in one folder such as data. Parquet files of other names count in a
    folder without folders alone: they can be notes on the images there.

    Raises:
        DataError: there are several such folders.
    """
    if (folder / SAVED[0]).is_file():
        return {path.parent.name: saved_files(path.parent) for path in sorted(folder.glob(f"*/{SAVED[1]}"))}
    if (folder / SAVED[1]).is_file() and any(folder.glob("*.arrow")):
        return {"all": saved_files(folder)}
    inside = sorted(folder.glob("*/"))
    if by_split := parquet_files(folder, alone=not inside):
        return by_split
    folders = {path.name: files for path in inside if (files := parquet_files(path))}
    if len(folders) > 1:
        raise DataError(f"{folder} holds several data sets; give the folder of one: {', '.join(folders)}")
    return next(iter(folders.values()), {})


def parquet_files(folder: Path, *, alone: bool = False) -> dict[str, list[Path]]:
    """The Parquet files of a folder by split; none where no name means a split, unless they are ``alone``."""
    by_split: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        by_split.setdefault(path.stem.split("-")[0], []).append(path)
    return by_split if alone or any(map(split_of, by_split)) else {}


def saved_files(folder: Path) -> list[Path]:
    """The files of a saved data set that its state lists: files of caches can lie beside them. Raises DataError."""
    try:
        entries = json.loads((folder / SAVED[1]).read_text(encoding="utf-8"))["_data_files"]
        return [folder / Path(entry["filename"]).name for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / SAVED[1]} cannot be read: {error!r}; save the data set again") from error


def catalogue_of_tables(folder: Path, files: dict[str, list[Path]], base: Path | None) -> Catalogue:
    """List a Hugging Face data set of images with labels.

    The column of images is the one whose feature is an Image, else one named image or img; the column of labels is the
    one whose feature is a ClassLabel, else one named label, labels, target or fine_label.

    Raises:
        DataError: without ``pyarrow``; a file cannot be read; no such columns.
    """
    passed_over, notes, read = PassedOver(), list[str](), dict[str, tuple[Any, list[str | None]]]()
    for name, paths in files.items():
        split = split_of(name)
        if split is None and len(files) > 1:
            passed_over.add("a split that is neither for training nor for evaluation", name)
        else:
            read[split or "all"] = read_table(folder, [held_inside(path, base) if base else path for path in paths])
    labels, numbers, more = numbered([label for _, names in read.values() for label in names if label is not None])
    parts: dict[str, Part] = {}
    for key, (images, names) in read.items():
        rows = np.flatnonzero([label is not None for label in names])
        if len(rows) < len(names):
            passed_over.add("without a label", f"the split {key}", len(names) - len(rows))
        indices = np.array([numbers[label] for label in names if label is not None], dtype=np.int64)
        parts[key] = TablePart(images, indices, rows, folder)
    return Catalogue(str(folder), labels, arranged(folder, parts, JoinedPart, notes), passed_over, (*notes, *more))


def read_table(folder: Path, paths: Sequence[Path]) -> tuple[Any, list[str | None]]:
    """The column of images of one split, and its labels' names, None for images without. Raises DataError."""
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError:
        raise DataError(
            f"{folder} is a Hugging Face data set, which needs pyarrow: pip install 'fedlmd[huggingface]'"
        ) from None
    try:
        tables = [
            parquet.read_table(path)
            if path.suffix == ".parquet"
            else pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
            for path in paths
        ]
        table = pyarrow.concat_tables(tables)
        features = features_of(table)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{folder} cannot be read as a Hugging Face data set: {error}") from error
    image = column(table, features, "Image", ("image", "img", "images"))
    label = column(table, features, "ClassLabel", ("label", "labels", "target", "fine_label"))
    if pyarrow.types.is_nested(table.schema.field(label).type):
        raise DataError(f"the column {label} of {folder} holds several labels for an image; one is needed")
    return table[image], label_texts(table[label].to_pylist(), features.get(label, {}).get("names"))


def features_of(table: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - as above
    """The features that the library ``datasets`` writes into a table's schema, by column. Raises ValueError."""
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    try:
        features = metadata.get("info", {}).get("features") or {}
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except AttributeError:
        raise ValueError("its features are no table") from None


def label_texts(values: Sequence[Any], names: Sequence[str] | None) -> list[str | None]:
    """Labels as text; None for those that are missing, which the library ``datasets`` writes as -1 too."""
    if names is None:
        return [None if value is None else str(value) for value in values]
    return [str(names[value]) if isinstance(value, int) and 0 <= value < len(names) else None for value in values]


def column(table: Any, features: Mapping[str, Mapping[str, Any]], kind: str, usual: Sequence[str]) -> str:  # noqa: ANN401 - as above
    """The column of a kind, by its feature or its name. Raises DataError."""
    by_feature = [name for name, feature in features.items() if feature.get("_type") == kind]
    for name in (*by_feature, *usual):
        if name in table.column_names:
            return name
    raise DataError(f"a Hugging Face data set needs a column {usual[0]}; it has {', '.join(table.column_names)}")
