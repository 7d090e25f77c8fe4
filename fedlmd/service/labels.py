"""Labels and folders as a request gives them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints


def as_text(label: object) -> object:
    """A whole number as the label that it is written as; anything else as it is."""
    return str(label) if isinstance(label, int) and not isinstance(label, bool) else label


def distinct(labels: list[str]) -> list[str]:
    """The labels, refused where one comes twice."""
    for position, label in enumerate(labels):
        if label in labels[:position]:
            raise ValueError(f"label {label!r} is listed twice; list each label once")
    return labels


Label = Annotated[
    str,
    BeforeValidator(as_text, json_schema_input_type=str | int),
    StringConstraints(min_length=1, max_length=200),
]
Labels = Annotated[
    list[Label], Field(min_length=2, max_length=1000, examples=[["0", "1", "2", "3", "4"]]), AfterValidator(distinct)
]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
