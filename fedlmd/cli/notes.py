"""What the package logs while a command works, as lines on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fedlmd.cli.show import visible


class NoteHandler(logging.Handler):
    """Writes each record as one line: a warning with that word before it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        # Looked up at each record: while bars are shown, Rich's own stream writes above them.
        word = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        sys.stderr.write(f"{word}{visible(record.getMessage())}\n")


@contextmanager
def notes_shown() -> Iterator[None]:
    """Show what is logged below ``fedlmd``, notes and warnings, until the end of the block."""
    log, handler = logging.getLogger("fedlmd"), NoteHandler(logging.INFO)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
