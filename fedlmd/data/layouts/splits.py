"""The parts of a source: what their names mean, and which of them is for training and which for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Literal, TypeVar

from fedlmd.data.images import DataError

Split = Literal["train", "eval", "all"]
"""Which part of a source: the one to train on, the one to evaluate on, or both."""

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("eval", "evaluation", "test", "testing", "tst"), "eval"),
}
"""What names say which part something belongs to, in lower case."""

VALIDATION = ("val", "valid", "validation", "dev")
"""Names of a part that is for evaluation where there is no other, and else for training."""

Images = TypeVar("Images", bound=Sized)


def arranged(
    name: object, parts: Mapping[str, Images], join: Callable[[list[Images]], Images], notes: list[str]
) -> dict[Split, Images]:
    """The parts to train and to evaluate on; or all, where there is nothing to evaluate on.

    Args:
        name: how messages name the source.
        parts: "train", "val", "eval" and "all", which joins "train" where there are others. So does "val" where there
            is "eval"; else it takes that place.
        join: makes one of several.
        notes: gets what is to be said.

    Raises:
        DataError: there is nothing to train on.
    """
    training = [parts[key] for key in ("train", "all") if len(parts.get(key, ()))]
    validation, evaluation = parts.get("val"), parts.get("eval")
    if validation and evaluation:
        notes.append(
            f"{len(validation):,} images of the validation part are taken for training; the test part evaluates"
        )
        training.append(validation)
    evaluation = evaluation or validation
    if not training:
        raise DataError(f"{name} has a part to evaluate on but none to train on; add a part train, or use neither")
    whole = training[0] if len(training) == 1 else join(training)
    return {"train": whole, "eval": evaluation} if evaluation else {"all": whole}


def split_of(name: str) -> Split | Literal["val"] | None:
    """Which part the name of a folder, an array or a table's entry means; None for any other name."""
    plain = name.strip().casefold()
    return "val" if plain in VALIDATION else SPLIT_NAMES.get(plain)
