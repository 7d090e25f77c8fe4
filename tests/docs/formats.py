"""Makes docs/guides/formats.md: every row is built as files, loaded and described by what came of it.

``python -m tests.docs.formats`` writes the page; a test compares it.
"""

import re
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from fedlmd.data import DataConfig, DataError, ImagesConfig, choose_rules, convert, load, survey
from fedlmd.data.facts import facts_of, look
from tests.data.layouts.test_hub import repository, save_parts, table
from tests.data.samples import RAMP
from tests.data.test_dicom import dicom
from tests.docs.format_samples import FORMATS, PASSED_OVER

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "formats.md"

HEAD = """# Layouts and formats

What a source may look like, what becomes of it, and what is refused with which sentence. Each row of this page is built
as files, loaded and described by a test; `python -m tests.docs.formats` writes it.

Suffixes and the names of parts count in any case. Where a source has no part to evaluate on, a share of each label
(`data.evaluation`, 20%) is split off, the same images in every run: no image is in both parts. What is dropped is
logged as a warning. `fedlmd data check SOURCE` says all of it before a run.
"""


def expanded(pattern):
    """The names that a pattern such as ``{cat,dog}/{1..5}.png`` stands for."""
    pieces = re.split(r"\{([^}]*)\}", pattern)
    choices = [
        [piece]
        if position % 2 == 0
        else [*map(str, range(1, int(piece[3:]) + 1))]
        if ".." in piece
        else piece.split(",")
        for position, piece in enumerate(pieces)
    ]
    return ["".join(chosen) for chosen in product(*choices)]


def build(folder, patterns):
    """Write a tree: by pattern None for images, else what the file holds; a pattern that ends in / is a folder."""
    for pattern, text in patterns.items():
        for name in expanded(pattern):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            elif text is not None:
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
            elif path.suffix == ".dcm":
                path.write_bytes(dicom(RAMP))
            else:
                Image.fromarray(RAMP).save(path)


def shown(patterns):
    """A tree as a cell of a table."""
    return "<br>".join(f"`{name}`{columns(text)}" for name, text in patterns.items())


def columns(text):
    """The first line of a table of labels, and nothing for other files."""
    return f" with columns `{text.splitlines()[0]}`" if isinstance(text, str) and len(text) > 1 else ""


def rows(first, last, **columns):
    """A table of labels for the images first to last."""
    head, form = columns.get("head", "file,label"), columns.get("form", "{}.png,{}")
    lines = [form.format(number, ("cat", "dog")[number % 2]) for number in range(first, last + 1)]
    return "\n".join([head, *lines]) + "\n"


SPLIT_ROWS = "file,label,split\n" + "".join(
    f"{number}.png,{('cat', 'dog')[number % 2]},{'train' if number < 7 else 'test'}\n" for number in range(1, 11)
)

LAYOUTS = {
    "label folders": {"{cat,dog}/{1..5}.png": None},
    "label folders with further folders": {"{cat,dog}/patient {1..5}/{left,right}.png": None},
    "parts": {"{train,test}/{cat,dog}/{1..5}.png": None},
    "parts by other names": {"{Training,Validation}/{cat,dog}/{1..5}.png": None},
    "three parts": {"{train,val,test}/{cat,dog}/{1..5}.png": None},
    "a part to train on alone": {"train/{cat,dog}/{1..5}.png": None},
    "any of these within one or more folders": {"archive/photos/{cat,dog}/{1..5}.png": None},
    "parts beside other folders": {"{train,test}/{cat,dog}/{1..5}.png": None, "ground_truth/dog/{1..5}.png": None},
    "parts within label folders": {"{cat,dog}/{train,test}/{1..5}.png": None},
    "a label that is called train": {"{train,plane}/{1..5}.png": None},
    "a table of labels": {"labels.csv": rows(1, 10), "images/{1..10}.png": None},
    "names without suffix, other columns": {
        "labels.csv": rows(1, 10, head="id_code;age;diagnosis", form="{};50;{}"),
        "{1..10}.png": None,
    },
    "a column of parts": {"labels.csv": SPLIT_ROWS, "images/{1..10}.png": None},
    "a table for each part": {"train.csv": rows(1, 7), "test.csv": rows(8, 10), "images/{1..10}.png": None},
    "photographs and masks": {"{cat,dog}/{1..5}.jpg": None, "{cat,dog}/{1..5}.png": None},
    "DICOM files, with a suffix or without": {"ct/{1..5}.dcm": None, "mr/IM000{1..5}": dicom(RAMP)},
    "files of systems": {
        "{cat,dog}/{1..5}.png": None,
        "{.DS_Store,Thumbs.db,@eaDir/1.png,__MACOSX/._1.png,lost+found/}": "",
    },
    "names in other forms of Unicode": {
        "train/Ba\u0308r/{1..5}.png": None,
        "test/B\u00e4r/{1..5}.png": None,
        "{train,test}/cat/{1..5}.png": None,
    },
}


def layouts(folder):
    """The rows of the layouts."""
    for number, (name, patterns) in enumerate(LAYOUTS.items()):
        place = folder / str(number)
        build(place, patterns)
        yield name, shown(patterns), became(place)
    parts = {name: table([1, 2, 3], [0, 1, 0]) for name in ("train", "test")}
    save_parts(folder / "saved", **parts)
    yield (
        "Hugging Face, saved to disk (`pip install 'fedlmd[huggingface]'`)",
        files_of(folder / "saved"),
        became(folder / "saved"),
    )
    repository(folder / "repository" / "data", **parts)
    yield "Hugging Face, files of a repository", files_of(folder / "repository"), became(folder / "repository")
    for number, (name, arrays) in enumerate(ARCHIVES.items()):
        place = folder / f"{number}.npz"
        np.savez(place, **arrays)
        yield name, arrays_shown(arrays), became(place)


def arrays_shown(arrays):
    """The arrays of an archive as a cell of a table."""
    return "<br>".join(f"`{key}: {array.dtype} {array.shape}`" for key, array in arrays.items())


def files_of(folder):
    """The files of a folder as a cell of a table."""
    return "<br>".join(f"`{path.relative_to(folder)}`" for path in sorted(folder.rglob("*")) if path.is_file())


X, Y = np.repeat(RAMP[None], 10, 0), np.arange(10) % 2

ARCHIVES = {
    "an .npz file": {"x": X, "y": Y},
    "an .npz file of parts": {"x_train": X, "y_train": Y.astype(str), "x_test": X, "y_test": Y.astype(str)},
    "an .npz file as MedMNIST has it": {
        f"{part}_{kind}": array
        for part in ("train", "val", "test")
        for kind, array in (("images", np.stack([X] * 3, -1)), ("labels", Y[:, None]))
    },
    "floats, channels first": {"images": (X / np.float32(255))[:, None], "labels": Y},
}


def became(place):
    """What a source became, as a cell of a table."""
    result = survey(str(place))
    counts = ", ".join(f"{label} {count['train']} + {count['eval']}" for label, count in result.labels.items())
    notes = [note for note in result.notes if "split off" not in note]
    return "<br>".join([counts, *(said(note, place) for note in notes)])


def said(text, place):
    """A sentence without the path that the test has given."""
    return f"`{text.replace(str(place), '<source>')}`"


def formats():
    """The rows of the formats."""
    for name, data in FORMATS.items():
        facts = facts_of([look(data)])
        choice = choose_rules(28, "auto", ImagesConfig(), [facts])
        changes = list(convert(data, choice.rules).changes)
        low, high = choice.rules.window or (0, 0)
        window = f"{low:g} to {high:g} become black to white" if choice.rules.window else ""
        kind = "RGB" if choice.rules.channels == 3 else "grey"
        yield name, kind, "; ".join(filter(None, [*changes, window])) or "nothing"


def passed_over(folder):
    """The rows of what is passed over, one by one beside images that are read."""
    for number, (name, (file, data)) in enumerate(PASSED_OVER.items()):
        place = folder / f"over{number}"
        build(place, {"{cat,dog}/{1..5}.png": None, f"cat/{file}": data})
        yield name, notes_on(place)
    for name, patterns in BESIDE.items():
        place = folder / re.sub("[^a-z]", "", name)
        build(place, patterns)
        yield name, notes_on(place)


def notes_on(place):
    """What is said of what is passed over, one sentence or more."""
    notes = [note for note in survey(str(place)).notes if "passed over" in note]
    assert notes, place
    return "<br>".join(said(note, place) for note in notes)


BESIDE = {
    "an empty label folder": {"{cat,dog}/{1..5}.png": None, "bird/": ""},
    "images beside the label folders": {"{cat,dog}/{1..5}.png": None, "{1..3}.png": None},
    "rows and images without each other": {"labels.csv": rows(1, 10), "{2..11}.png": None, "{2..9}.png": None},
    "a table that is not one of labels": {"{cat,dog}/{1..5}.png": None, "prices.csv": "item,price\nmilk,9\n"},
    "a table that is not UTF-8": {"{cat,dog}/{1..5}.png": None, "names.csv": "n\u00e4me,x\n".encode("latin-1")},
}

REFUSED = {
    "no such source": {},
    "images without labels": {"{1..5}.png": None},
    "parts without labels": {"{train,test}/{1..5}.png": None},
    "a part to evaluate on alone": {"test/{cat,dog}/{1..5}.png": None},
    "no image": {"cat/notes.txt": b"x"},
    "an empty folder": {"cat/": ""},
    "a table without labels": {
        "{1..5}.png": None,
        "sizes.csv": rows(1, 5, head="file,width,height", form="{}.png,9,9"),
    },
    "one image of each label": {"{cat,dog}/1.png": None},
    "several data sets of Hugging Face": {"{small,large}/train.parquet": b"x"},
}

REFUSED_ARCHIVES = {
    "an .npz file without labels": {"x": X},
    "arrays by other names": {"arr_0": X, "arr_1": Y},
    "two arrays of labels": {"x": X, "fine_labels": Y, "coarse_labels": Y},
    "several labels for an image, one-hot or not": {"x": X, "y": np.eye(10)},
    "labels that are not whole": {"x": X, "y": Y / 2},
    "fewer labels than images": {"x": X, "y": Y[1:]},
    "images of five channels": {"x": np.stack([X] * 5, -1), "y": Y},
    "no images": {"x": X[:0], "y": Y[:0]},
    "pickled objects": {"x": X, "y": np.array([{}] * 10)},
}


def refused(folder):
    """The rows of what is refused."""
    for number, (name, patterns) in enumerate(REFUSED.items()):
        place = folder / f"refused{number}"
        build(place, patterns)
        yield name, shown(patterns), refusal(place)
    for number, (name, arrays) in enumerate(REFUSED_ARCHIVES.items()):
        place = folder / f"refused{number}.npz"
        np.savez(place, **arrays)
        yield name, arrays_shown(arrays), refusal(place)
    place = folder / "root" / "secret"
    build(place, {"{cat,dog}/{1..5}.png": None})
    (place.parent / "data").mkdir()
    (place.parent / "data" / "cat").symlink_to(place / "cat")
    yield "a link out of the data root", "`data/cat` to `secret/cat`", refusal(place.parent / "data", root=True)
    place = folder / "strict"
    build(place, {"{cat,dog}/{1..5}.png": None, "README.md": "x"})
    yield "anything passed over, where `data.strict` is true", "`README.md`", refusal(place, strict=True)


def refusal(place, *, root=False, strict=False):
    """The sentence with which a source is refused."""
    try:
        for split in ("train", "eval"):
            load(str(place), split, root=place if root else None, config=DataConfig(strict=strict))
    except DataError as error:
        return said(str(error), place)
    raise AssertionError(f"{place} is not refused")


def page(folder):
    """The page; files are written below a folder."""
    lines = [HEAD]
    for title, heads, table_rows in (
        ("Layouts", ("layout", "files", "images to train on + to evaluate on"), layouts(folder)),
        ("Formats", ("format", "read as", "what is changed"), formats()),
        ("What is passed over", ("what", "sentence"), passed_over(folder)),
        ("What is refused", ("what", "files", "sentence"), refused(folder)),
    ):
        lines += [f"## {title}\n", line(heads), line(["---"] * len(heads)), *map(line, table_rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def line(cells):
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as built:
        PAGE.write_text(page(Path(built)), encoding="utf-8")
