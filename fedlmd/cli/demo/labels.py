"""Which labels the demo learns, which it keeps unknown, and which worker has which."""

from __future__ import annotations

from collections.abc import Sequence

from fedlmd.cli.options import listed_labels
from fedlmd.data import normal_label
from fedlmd.data.images import check_labels

SHOWN = 20
"""Labels that are listed one by one."""

UNKNOWN = {"sign-digits": ("6", "7", "8", "9")}
"""Labels of shipped sources that are unknown where none are given; of other sources it is the last third."""


class DemoError(ValueError):
    """The demo cannot be run so; the message is one sentence for the user."""


def given_labels(text: str) -> tuple[str, ...]:
    """Labels of an option, comma separated."""
    return tuple(map(normal_label, listed_labels(text)))


def choose_labels(
    present: Sequence[str], known: Sequence[str], unknown: Sequence[str], usual: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels to learn and those to be unknown.

    Where neither is given, the usual ones are unknown; without these the last third of the labels: at least one, and at
    least two are left. Where one is given, the other is all other labels.

    Args:
        present: labels of the source, in natural order.
        known: those to learn, as given.
        unknown: those to be unknown, as given.
        usual: those to be unknown where neither is given.

    Raises:
        DataError: a label is not there, or is listed twice.
        DemoError: a label is in both, or too few are left.
    """
    for labels in filter(None, (known, unknown)):
        check_labels(labels, present)
    if both := [label for label in known if label in unknown]:
        raise DemoError(f"label {both[0]!r} is to be learnt and to be unknown; it can be one of them")
    if not known and not unknown:
        unknown = usual or present[-max(1, len(present) // 3) :]
    mend = "name more with --labels" if known else "name fewer with --unknown"
    known = known or [label for label in present if label not in unknown]
    unknown = unknown or [label for label in present if label not in known]
    if len(known) < 2:
        raise DemoError(
            f"{len(known)} label{'' if len(known) == 1 else 's'} left to learn, where two are needed; "
            f"there are {', '.join(present)}: {mend}, or add images of another label"
        )
    if not unknown:
        raise DemoError("no label is left to be unknown: list fewer with --labels, or add images of another label")
    return tuple(known), tuple(unknown)


def chosen_note(known: Sequence[str], unknown: Sequence[str], *, by_rule: bool, usual: Sequence[str] = ()) -> str:
    """What is learnt and what is unknown, as a sentence; arguments as for ``choose_labels``."""
    third = "" if usual else ", the last third of the labels"
    rule = f"{third} (--labels and --unknown choose others)" if by_rule else ""
    return f"the workers learn {shortened(known)}; no worker is shown {shortened(unknown)}{rule}"


def label_lists(labels: Sequence[str], workers: int) -> list[list[str]]:
    """The labels of each worker: all but one, in turn the last, the one before it, and so on.

    Every label is at one worker at least; with two labels or one worker each worker has all.
    """
    if len(labels) < 3 or workers < 2:
        return [list(labels) for _ in range(workers)]
    missing = [labels[-1 - worker % len(labels)] for worker in range(workers)]
    return [[label for label in labels if label != lacked] for lacked in missing]


def listed(counts: dict[str, int]) -> str:
    """How many images each label has, in words."""
    each = shortened([f"{label} ({count:,})" for label, count in counts.items()])
    return f"{sum(counts.values()):,} images of {len(counts):,} labels: {each}"


def shortened(names: Sequence[str]) -> str:
    """Names, comma separated; of many the first ones."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
