"""The command ``workers``: who announced itself to a server, and why some take no part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedlmd.cli.options import JsonFile

if TYPE_CHECKING:
    from rich.table import Table

LABELS_SHOWN = 12
"""Labels of a worker that the table lists."""


def workers(
    server: Annotated[str, typer.Argument(help="URL of the server's REST service.")] = "http://127.0.0.1:9000",
    json_file: JsonFile = None,
) -> None:
    """List the workers that announced themselves to a server, and why some of them take no part."""
    from fedlmd.cli.show import console_beside, write
    from fedlmd.service.client import NodeClient

    listed = NodeClient(server).workers()
    connected = sum(bool(worker["connected"]) for worker in listed)
    out = console_beside(json_file)
    if listed:
        out.print(worker_table(listed, datetime.now(UTC)))
    out.print(f"{connected} connected of {len(listed)} within the last hour")
    write({"workers": listed}, json_file)


def worker_table(listed: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """A line for each worker. What workers say is shown as plain text: they can write whatever they want."""
    from rich.table import Table

    from fedlmd.cli.show import plain

    table = Table(show_edge=False)
    for column in ("worker", "state", "labels", "does", "remark"):
        table.add_column(column, overflow="fold")
    for worker in listed:
        remark = worker["refused"] or worker["problem"] or ""
        cells = (worker["name"], state_of(worker, now), labels_of(worker["labels"]), work_of(worker["doing"]), remark)
        table.add_row(*(plain(cell) for cell in cells))
    return table


def state_of(worker: Mapping[str, Any], now: datetime) -> str:
    """How a worker stands with its server, in a few words."""
    if worker["refused"]:
        return "refused"
    if worker["connected"]:
        return "no usable images" if worker["problem"] else "connected"
    seconds = max(0.0, (now - datetime.fromisoformat(worker["last_seen"])).total_seconds())
    return f"last seen {seconds:.0f} s ago" if seconds < 120 else f"last seen {seconds / 60:.0f} min ago"


def labels_of(labels: Mapping[str, int] | Sequence[str] | None) -> str:
    """A worker's labels, with their counts where it lets them be known."""
    if labels is None:
        return "not announced"
    words = [f"{label} {labels[label]:,}" if isinstance(labels, Mapping) else label for label in labels]
    more = f" and {len(words) - LABELS_SHOWN:,} more" if len(words) > LABELS_SHOWN else ""
    return ", ".join(words[:LABELS_SHOWN]) + more


def work_of(doing: Mapping[str, Any] | None) -> str:
    """What a worker's trainer does."""
    return "" if doing is None else f"{doing['stage']} {doing['done']}/{doing['total']}"
