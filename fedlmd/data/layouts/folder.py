"""The layouts of a folder of image files: label folders, split folders, a table of labels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from fedlmd.data.catalogue import Catalogue, PassedOver
from fedlmd.data.images import DataError
from fedlmd.data.layouts.splits import split_of
from fedlmd.data.layouts.table import catalogue_of_table
from fedlmd.data.layouts.walk import Entry, Labelled, Walk, assembled

GIVE_LABELS = (
    "put each label's images in a folder of its name, or add a file labels.csv with the columns file and label"
)


def catalogue_of_folder(folder: Path, base: Path | None, *, labelled: bool = True) -> Catalogue:
    """List a folder of images.

    Layouts, tried in this order; names of splits are those of ``SPLIT_NAMES`` and ``VALIDATION``, in any case:

    - a table beside or above the images (``fedlmd.data.layouts.table``);
    - ``SPLIT/LABEL/**/*.png``; folders beside the split folders are passed over;
    - ``LABEL/SPLIT/**/*.png``, where all images lie so;
    - ``LABEL/**/*.png``; images beside the label folders are passed over;
    - all of it within one further folder, as archives are often unpacked.

    Args:
        folder: the folder.
        base: the data root, resolved; None for any.
        labelled: whether images need labels; without labels all are taken, under the folder's name.

    Raises:
        DataError: no layout fits, or a link leads outside of the root.
    """
    walk = Walk(folder, base)
    entries = walk.entries()
    if (by_table := catalogue_of_table(folder, walk, entries)) is not None:
        return by_table
    entries, notes = without_masks(entries, walk.passed_over)
    if not entries:
        raise DataError(f"{folder} holds no image ({'; '.join(walk.passed_over.sentences()) or 'it is empty'})")
    depth = shared_depth([entry for entry in entries if len(entry.parts) > 1])
    if depth:
        notes.append(
            f"everything lies in the folder {'/'.join(entries[-1].parts[:depth])}, which is taken for the source"
        )
    loose = all(len(entry.parts) == depth + 1 for entry in entries)
    if loose and not labelled:
        return assembled(folder, {"all": [(entry, folder.name) for entry in entries]}, walk.passed_over, notes)
    if loose:
        raise DataError(f"{folder} has images but no label folders; {'; '.join([GIVE_LABELS, *walk.problems])}")
    return assembled(folder, labelled_entries(folder, entries, depth, walk.passed_over, notes), walk.passed_over, notes)


def shared_depth(entries: list[Entry]) -> int:
    """How many folders lead to the one that has the label or split folders: those that all images share.

    A folder that holds images itself is a label's, and so is not counted.
    """
    depth = 0
    while len({entry.parts[depth] for entry in entries}) == 1 and all(
        len(entry.parts) > depth + 2 for entry in entries
    ):
        if split_of(entries[0].parts[depth]) is not None:
            break
        depth += 1
    return depth


def labelled_entries(
    folder: Path, entries: list[Entry], depth: int, passed_over: PassedOver, notes: list[str]
) -> Labelled:
    """The label and part of each image by the folders that it lies in. Raises DataError where there is none."""
    splits = splits_of(entries, depth, notes)
    inside = not splits and all(divides(entry, depth) for entry in entries if len(entry.parts) > depth + 1)
    beside = "images beside the label folders"
    parts: dict[str, list[tuple[Entry, str]]] = defaultdict(list)
    for entry in entries:
        first, *rest = entry.parts[depth:] or ("",)
        if not rest:
            passed_over.add(beside, entry.relative)
        elif not splits:
            parts[str(split_of(rest[0])) if inside else "all"].append((entry, first))
        elif first not in splits:
            passed_over.add("beside the folders of the splits", entry.relative)
        elif len(rest) == 1:
            passed_over.add(beside, entry.relative)
        else:
            parts[splits[first]].append((entry, rest[0]))
    if not parts:
        raise DataError(f"{folder} has images in {', '.join(splits)} but no label folders there; {GIVE_LABELS}")
    return parts


def divides(entry: Entry, depth: int) -> bool:
    """Whether an image lies in a split's folder within its label's."""
    return len(entry.parts) > depth + 2 and split_of(entry.parts[depth + 1]) is not None


def splits_of(entries: list[Entry], depth: int, notes: list[str]) -> dict[str, str]:
    """The folders that are named after a split, and that split; none of them where there are label folders instead.

    A folder train that holds images itself, beside others that do, is a label's: there are trains among vehicles.
    """
    inside = [entry.parts[depth:] for entry in entries if len(entry.parts) > depth + 1]
    splits: dict[str, str] = {parts[0]: split for parts in inside if (split := split_of(parts[0]))}
    others = any(parts[0] not in splits for parts in inside)
    if others and set(splits.values()) == {"train"} and all(len(parts) == 2 for parts in inside if parts[0] in splits):
        notes.append(f"the folder {next(iter(splits))} holds images and no folders, so it is taken for a label")
        return {}
    return splits


def without_masks(entries: list[Entry], passed_over: PassedOver) -> tuple[list[Entry], list[str]]:
    """The images without masks: PNG files, where most photographs have a PNG file of the same name beside them."""
    if not any(map(is_png, entries)):
        return entries, []
    stems = {(entry.parts[:-1], Path(entry.parts[-1]).stem) for entry in entries if not is_png(entry)}
    masks = [entry for entry in entries if is_png(entry) and (entry.parts[:-1], Path(entry.parts[-1]).stem) in stems]
    if not masks or 2 * len(masks) < len(stems):
        return entries, []
    passed_over.add(
        "a PNG file beside a photograph of the same name, taken for its mask", masks[0].relative, len(masks)
    )
    left_out = set(masks)
    return [entry for entry in entries if entry not in left_out], []


def is_png(entry: Entry) -> bool:
    """Whether a file is a PNG by its name."""
    return entry.parts[-1].casefold().endswith(".png")
