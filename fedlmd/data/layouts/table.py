"""A folder of images whose labels are in a table: a CSV or TSV file with a column of files and one of labels."""

from __future__ import annotations

import csv
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from fedlmd.data.catalogue import Catalogue
from fedlmd.data.images import DataError
from fedlmd.data.layouts.splits import split_of
from fedlmd.data.layouts.walk import Entry, Walk, assembled

FILE_COLUMNS = (
    *("file", "filename", "file_name", "image", "image_id", "image_name", "image_path", "img", "path"),
    *("id", "id_code", "name"),
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "y", "diagnosis", "breed")
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "dataset", "usage")

LARGEST = 200_000_000
"""Bytes of a table that is read."""

SAMPLE = 50
"""Rows by which the column of files is recognised, spread over the table."""

DEEPEST = 2
"""How many folders deep a table of labels may lie."""


@dataclass(frozen=True)
class Table:
    """A table of labels.

    Args:
        entry: the file.
        rows: by column.
        file: the column of files.
        label: the column of labels.
        split: the column of splits, or None.
    """

    entry: Entry
    rows: list[dict[str, str]]
    file: str
    label: str
    split: str | None


def catalogue_of_table(folder: Path, walk: Walk, entries: list[Entry]) -> Catalogue | None:
    """List a folder by its tables; None where none of them names images and their labels.

    A table lies in the folder itself, or up to ``DEEPEST`` folders below. Its columns are recognised by their names
    (``FILE_COLUMNS``, ``LABEL_COLUMNS``, ``SPLIT_COLUMNS``) and by whether their entries are files there: with or
    without suffix and folders. Without a column of splits the part is that of the table's name (train.csv), where there
    are several tables, or of the folder of the image.
    """
    if not walk.tables:
        return None
    known = names_of(entries)
    tables = usable_tables(walk, entries, known)
    parts: dict[str, list[tuple[Entry, str]]] = defaultdict(list)
    listed: set[str] = set()
    for table in tables:
        for row in table.rows:
            entry = known.get(normal_path(row[table.file]))
            if entry is None:
                walk.passed_over.add(f"listed in {table.entry.relative}, but not there", row[table.file])
            elif not row[table.label]:
                walk.passed_over.add(f"without a label in {table.entry.relative}", row[table.file])
            elif entry.relative in listed:
                walk.passed_over.add(f"listed again in {table.entry.relative}", row[table.file])
            else:
                listed.add(entry.relative)
                parts[part_of(table, row, entry, len(tables))].append((entry, row[table.label]))
    if not listed:
        return None
    for entry in entries:
        if entry.relative not in listed:
            walk.passed_over.add("not listed in the table of labels", entry.relative)
    notes = [f"labels are read from {t.entry.relative}, columns {t.file!r} and {t.label!r}" for t in tables]
    return assembled(folder, parts, walk.passed_over, notes)


def usable_tables(walk: Walk, entries: list[Entry], known: dict[str, Entry]) -> list[Table]:
    """The tables that name images and their labels, those that name a part first; others are passed over."""
    tables: list[Table] = []
    folders = {image.parts[:-1] for image in entries if not any(map(split_of, image.parts[-2:-1]))}
    for entry in walk.tables:
        place = entry.parts[:-1]
        above = len(folders) <= 1 and all(image.parts[: len(place)] == place for image in entries)
        try:
            table = read_table(entry, known, above=above) if len(place) <= DEEPEST else None
        except DataError as error:
            walk.passed_over.add(f"a table that is not used, as {error}", entry.relative)
            walk.problems.append(str(error))
            continue
        if table is None:
            walk.passed_over.add("a table that names no image and label", entry.relative)
        else:
            tables.append(table)
    return sorted(tables, key=lambda table: split_of_table(table) is None)


def split_of_table(table: Table) -> str | None:
    """The part that a table's name means, such as that of train.csv or test_labels.csv."""
    return split_of(Path(table.entry.parts[-1]).stem.split("_")[0])


def part_of(table: Table, row: dict[str, str], entry: Entry, tables: int) -> str:
    """The part that a row belongs to: train, eval, val or all."""
    by_row = split_of(row[table.split]) if table.split else None
    by_table = split_of_table(table) if tables > 1 else None
    by_folder = next((split for part in entry.parts[:-1] if (split := split_of(part))), None)
    return by_row or by_table or by_folder or "all"


def names_of(entries: list[Entry]) -> dict[str, Entry]:
    """The images by all names that mean one: the path or any end of it, with or without suffix."""
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        path = normal_path(entry.relative)
        without = path.removesuffix(Path(path).suffix)
        for full in {path, without}:
            pieces = full.split("/")
            for start in range(len(pieces)):
                by_name["/".join(pieces[start:])].append(entry)
    return {form: same[0] for form, same in by_name.items() if len(same) == 1}


def normal_path(path: str) -> str:
    """A path with slashes, in composed characters (Unicode NFC), without ./ at its beginning."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).removeprefix("./")


def read_table(entry: Entry, known: dict[str, Entry], *, above: bool = True) -> Table | None:
    """A table of labels, or None for a file that names no image.

    Args:
        entry: the file.
        known: images by what a table may call them.
        above: whether all images lie beside or below the table, and in no label folders: of two columns one is then the
            label, by any name.

    Raises:
        DataError: it names images, but no label for them; it is no table of text.
    """
    if "submission" in entry.parts[-1].casefold():
        return None  # guesses in the form of a competition's answer
    rows = read_rows(entry)
    columns = list(rows[0]) if rows else []
    sample = rows[:: max(1, len(rows) // SAMPLE)]
    named = [column for column in columns if column.strip().casefold() in FILE_COLUMNS]
    hits = {column: hits_of(sample, column, known, numbers=column in named) for column in columns}
    best = max([column for column in named if hits[column]] or columns, key=lambda column: hits[column], default="")
    if not best or 2 * hits[best] < len(sample):
        return None
    labels = [column for column in columns if column != best and column.strip().casefold() in LABEL_COLUMNS]
    if not labels and len(columns) == 2 and above:
        labels = [column for column in columns if column != best]
    if not labels:
        raise DataError(
            f"{entry.relative} names images in its column {best!r}, but has no column label; "
            f"it has {', '.join(columns)}"
        )
    splits = [column for column in columns if column.strip().casefold() in SPLIT_COLUMNS and is_split(rows, column)]
    return Table(entry, rows, best, labels[0], splits[0] if splits else None)


def hits_of(rows: list[dict[str, str]], column: str, known: dict[str, Entry], *, numbers: bool) -> int:
    """How many entries of a column name images; bare numbers count in columns for files alone: ages are numbers too."""
    return sum(normal_path(row[column]) in known and (numbers or not row[column].isdecimal()) for row in rows)


def is_split(rows: list[dict[str, str]], column: str) -> bool:
    """Whether a column says train and test, or nothing for some images."""
    return all(not row[column] or split_of(row[column]) for row in rows)


def read_rows(entry: Entry) -> list[dict[str, str]]:
    """The rows of a CSV or TSV file with a header. Raises DataError."""
    path = Path(entry.path)
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{entry.relative} has more than {LARGEST:,} bytes; split it")
        text = path.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter, restval="")
        return [{str(key): str(value).strip() for key, value in row.items() if key is not None} for row in reader]
    except UnicodeDecodeError:
        raise DataError(f"{entry.relative} is not UTF-8 text; save it as CSV UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{entry.relative} cannot be read as a table: {error}") from error
