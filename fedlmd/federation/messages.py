"""Messages between server and workers: packed into and unpacked from Flower's; every record key is named here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from fedlmd.release import Weights

# Records of a message. Flower's strategies know the first two under these names, too.
ARRAYS, CONFIG, METRICS, NOTE = "arrays", "config", "metrics", "note"

# Keys inside the records. Flower weighs updates by NUM_EXAMPLES.
ACTION, SETTINGS, NUM_EXAMPLES, WORKER, ERROR = "action", "settings", "num-examples", "worker", "error"
SERVER_ROUND, ROUND = "server-round", "round"
# Seconds that the server waits for the reply.
SECONDS = "seconds"
# The round in which each worker's update was averaged last, by the worker's name; as JSON.
AVERAGED = "averaged"

# Flower's metrics are flat; {"lmd": {"mean": 0.5}} travels as {"lmd/mean": 0.5}.
INNER = "/"

FLOATS = ("float32", "float16")


@dataclass(frozen=True)
class Request:
    """A request of the server to a worker.

    Args:
        action: one of ``fedlmd.federation.actions``.
        config: the settings that go with it; for "train" also "round", from 1, with FedProx "proximal-mu", and where
            updates are compressed "averaged", the round in which each worker's update was averaged last, by its name.
        weights: float16 or float32 arrays by name.
    """

    action: str
    config: dict[str, Any]
    weights: Weights


@dataclass(frozen=True)
class Reply:
    """A worker's reply.

    Args:
        worker: the worker's name.
        metrics: numbers, lists of numbers, or dicts of these; for "train" it holds "num-examples".
        weights: float16 or float32 arrays by name, for "train" perhaps compressed; for "thresholds" the outputs on
            the self-test's images.
        error: why the worker could not do it; None where it could.
    """

    worker: str
    metrics: dict[str, Any] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    error: str | None = None


def pack_weights(weights: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Arrays by name as one record: one flat array for each dtype, whose key is its table of contents.

    Flower sends and stores every array of a record by itself, which for the hundred small arrays of two networks takes
    longer than the transfer of the bytes. Averages of flat arrays are the flat arrays of averages.
    """
    record = ArrayRecord()
    for dtype in sorted({array.dtype.str for array in weights.values()}):
        parts = {name: np.asarray(array) for name, array in sorted(weights.items()) if array.dtype.str == dtype}
        contents = json.dumps([[name, list(array.shape)] for name, array in parts.items()], ensure_ascii=False)
        record[contents] = Array(np.concatenate([array.ravel() for array in parts.values()]))
    return record


def unpack_weights(record: ArrayRecord) -> Weights:
    """The arrays of a record.

    Raises:
        ValueError: when an array is not a plain numpy array, or not as long as its table of contents says.
    """
    weights: Weights = {}
    try:
        for contents, array in record.items():
            weights.update(parts_of(json.loads(contents), array.numpy()))
    except (TypeError, ValueError, EOFError, OSError) as error:
        raise ValueError(f"an array cannot be read: {error}") from None
    return weights


def parts_of(contents: list[tuple[str, list[int]]], flat: np.ndarray) -> Weights:
    """Divide a flat array by its table of contents."""
    sizes = [math.prod(shape) for _, shape in contents]
    if flat.ndim != 1 or any(length < 0 for _, shape in contents for length in shape) or sum(sizes) != flat.size:
        raise ValueError(f"it has shape {flat.shape}, its table of contents says ({sum(sizes)},)")
    pieces = np.split(flat, np.cumsum(sizes)[:-1]) if sizes else []
    return {str(name): piece.reshape(shape) for (name, shape), piece in zip(contents, pieces, strict=True)}


def pack_config(action: str, settings: Mapping[str, Any]) -> ConfigRecord:
    """An action with its settings, which travel as one JSON string."""
    return ConfigRecord({ACTION: action, SETTINGS: json.dumps(settings)})


def pack_request(action: str, settings: Mapping[str, Any], weights: ArrayRecord, node: int) -> Message:
    """A request outside of Flower's training rounds, for one node."""
    content = RecordDict({ARRAYS: weights, CONFIG: pack_config(action, settings)})
    return Message(content, node, MessageType.QUERY)


def unpack_request(message: Message) -> Request:
    """The request in a message; what Flower's strategy added to its config is merged into the settings."""
    record = message.content.config_records[CONFIG]
    added = {ROUND if key == SERVER_ROUND else key: value for key, value in record.items()}
    del added[ACTION], added[SETTINGS]
    if AVERAGED in added:
        added[AVERAGED] = json.loads(str(added[AVERAGED]))
    config = {**json.loads(str(record[SETTINGS])), **added}
    return Request(str(record[ACTION]), config, unpack_weights(message.content.array_records[ARRAYS]))


def pack_reply(request: Message, reply: Reply) -> Message:
    """The reply to a request. Raises TypeError when a metric is not a number or a list of numbers."""
    note = ConfigRecord({WORKER: reply.worker})
    if reply.error is not None:
        note[ERROR] = reply.error
    content = RecordDict({ARRAYS: pack_weights(reply.weights), METRICS: pack_metrics(reply.metrics), NOTE: note})
    return Message(content, reply_to=request)


def pack_update(weights: Mapping[str, np.ndarray], weight: float) -> Message:
    """Weights and their weight in the average as Flower's strategies expect a worker's update. It is never sent."""
    content = RecordDict({ARRAYS: pack_weights(weights), METRICS: MetricRecord({NUM_EXAMPLES: weight})})
    return Message(content, 1, MessageType.TRAIN)


def pack_metrics(metrics: Mapping[str, Any]) -> MetricRecord:
    """Metrics as Flower's record."""
    return MetricRecord({name: plain_metric(value) for name, value in flat(metrics).items()})


def wire_size(metrics: Mapping[str, Any]) -> int:
    """Size of a reply's metrics in a message, in bytes."""
    return len(pack_metrics(metrics).deflate())


def content_size(content: RecordDict) -> int:
    """Size of a message's content in bytes: its arrays, and the other records as they are serialised."""
    arrays = sum(record.count_bytes() for record in content.array_records.values())
    others = [*content.config_records.values(), *content.metric_records.values()]
    return arrays + sum(len(record.deflate()) for record in others)


def plain_metric(value: Any) -> Any:  # noqa: ANN401 - checked by MetricRecord
    """A number or a list of numbers in the types that Flower accepts: a list of ints and floats becomes floats."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple) and not all(isinstance(item, int) for item in value):
        return [float(item) for item in value]
    return list(value) if isinstance(value, tuple) else value


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics without inner dicts."""
    plain: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            plain.update({f"{name}{INNER}{inner}": entry for inner, entry in value.items()})
        else:
            plain[name] = value
    return plain


def nested(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``flat``."""
    whole: dict[str, Any] = {}
    for name, value in metrics.items():
        outer, inner_mark, inner = name.rpartition(INNER)
        if inner_mark:
            whole.setdefault(outer, {})[inner] = value
        else:
            whole[name] = value
    return whole


def unpack_reply(message: Message) -> Reply:
    """The reply in a message. Never raises: unreadable content and Flower's own error messages become its ``error``."""
    name = str(message.metadata.src_node_id)
    if message.has_error():
        return Reply(name, error=message.error.reason or "the worker failed without a reason")
    try:
        note = message.content.config_records[NOTE]
        name = str(note[WORKER])
        metrics = nested(message.content.metric_records[METRICS])
        weights = unpack_weights(message.content.array_records[ARRAYS])
    except KeyError as error:
        return Reply(name, error=f"the reply lacks {error}")
    except (ValueError, TypeError, AttributeError) as error:
        return Reply(name, error=f"the reply cannot be read: {error}")
    return Reply(name, metrics, weights, str(note[ERROR]) if ERROR in note else None)


def check_update(update: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> str | None:
    """Why an update cannot be averaged, or None when it can.

    Args:
        update: a worker's weights.
        expected: weights with the names, shapes and dtypes that the update must have.
    """
    if reason := check_form(update, expected):
        return reason
    for name, array in update.items():
        if array.dtype != expected[name].dtype or array.dtype.name not in FLOATS:
            return f"{name!r} has dtype {array.dtype}, not {expected[name].dtype}"
        if not np.isfinite(array).all():
            return f"{name!r} holds values that are not finite numbers"
    return None


def check_form(update: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> str | None:
    """Why the names or shapes of an update are wrong, or None when they are right."""
    if missing := sorted(expected.keys() - update.keys()):
        return f"{missing[0]!r} is missing ({len(missing)} of {len(expected)} arrays are)"
    if unexpected := sorted(update.keys() - expected.keys()):
        return f"{unexpected[0]!r} is not an array of this model"
    for name, array in update.items():
        if array.shape != expected[name].shape:
            return f"{name!r} has shape {array.shape}, not {expected[name].shape}"
    return None


def check_reply(reply: Reply, expected: Mapping[str, np.ndarray]) -> str | None:
    """Why a reply to "train" is refused, or None when it is good: its error, its count of examples, its update."""
    if reply.error is not None:
        return reply.error
    count = reply.metrics.get(NUM_EXAMPLES)
    if not isinstance(count, int | float) or not 0 < count < math.inf:
        return f"{NUM_EXAMPLES!r} must be a number above 0, not {count!r}"
    return check_update(reply.weights, expected)
