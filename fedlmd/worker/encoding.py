"""Encoding of a worker's images: latents by a run's encoder, whose maps are stored in a file from run to run."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from torch import Tensor

from fedlmd.data import PixelRules, Raw, to_unit_range
from fedlmd.models import EncoderConfig, LatentEncoder

MOST_BYTES = 4 * 2**30
"""Size that a file of stored maps does not exceed."""

TABLES = """
CREATE TABLE IF NOT EXISTS maps (key BLOB PRIMARY KEY, maps BLOB NOT NULL);
"""
REMOVE_OLDEST = """
DELETE FROM maps WHERE rowid IN (SELECT rowid FROM maps ORDER BY rowid LIMIT 1 + (SELECT COUNT(*) FROM maps) / 10)
"""

SPARSE = 2
"""For the whitening, every so many-th row and column of cells is taken: neighbours are nearly equal."""


@final
class StoredMaps:
    """A file of maps by key, so that an image is encoded once. Where it cannot be used, nothing is stored.

    Several processes may use the same file. The oldest maps make room for new ones.

    Args:
        path: of the file, which is made with its folder when it is missing.
        most: bytes that it may take, about.
    """

    def __init__(self, path: Path, most: int = MOST_BYTES) -> None:
        self.path, self.most = path, most
        self.problem: str | None = None
        self.connection: sqlite3.Connection | None = None

    def get(self, key: bytes) -> bytes | None:
        """The maps of a key, None where there are none."""
        rows = self.execute("SELECT maps FROM maps WHERE key = ?", [(key,)])
        return bytes(rows[0][0]) if rows else None

    def put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Store maps by key."""
        self.execute("INSERT OR REPLACE INTO maps VALUES (?, ?)", entries)
        pages, unused, size = (self.execute(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size"))
        if pages and (pages[0][0] - unused[0][0]) * size[0][0] > self.most:
            self.execute(REMOVE_OLDEST)

    def execute(self, statement: str, rows: Sequence[tuple[bytes, ...]] = ((),)) -> list[tuple[Any, ...]]:
        """What a statement gives; nothing once the file could not be used."""
        if self.problem is not None:
            return []
        try:
            connection = self.opened()
            with connection:
                if len(rows) == 1:
                    return connection.execute(statement, rows[0]).fetchall()
                connection.executemany(statement, rows)
        except (sqlite3.Error, OSError) as error:
            self.problem = f"{self.path} cannot be used: {error}"
        return []

    def opened(self) -> sqlite3.Connection:
        """The connection to the file."""
        if self.connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(self.path, timeout=30.0, check_same_thread=False)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = OFF")  # what is lost with the power is encoded again
            self.connection.executescript(TABLES)
        return self.connection

    def close(self) -> None:
        """Close the file."""
        if self.connection is not None:
            with closing(self.connection):
                self.connection = None


@final
class Encoding:
    """Implements ``fedlmd.data.Encode``: latents of a run, or maps where the whitening is not known yet.

    Args:
        encoder: of the run.
        rules: how pixels are made.
        store: maps of images that were encoded before; None stores none.
        device: that computes.
    """

    def __init__(
        self, encoder: LatentEncoder, rules: PixelRules, store: StoredMaps | None, device: torch.device
    ) -> None:
        self.encoder, self.store, self.device = encoder, store, device
        self.prefix = identity(encoder.config, rules)

    def stored(self, raw: Raw) -> Float16[Tensor, "d h w"] | None:
        """The latents of an image whose maps are stored."""
        data = None if self.store is None else self.store.get(self.key(raw))
        config = self.encoder.config
        shape = (config.features + config.thumbnail_channels, config.side, config.side)
        if data is None or len(data) != 2 * int(np.prod(shape)):
            return None
        maps = torch.from_numpy(np.frombuffer(data, np.float16).reshape(shape).copy())
        return self.finished(maps[None])[0]

    def __call__(self, raws: Sequence[Raw], pixels: UInt8[Tensor, "b c s s"]) -> Float16[Tensor, "b _d _h _w"]:
        """Encode images and store their maps."""
        maps = self.encoder.maps(to_unit_range(pixels).to(self.device)).cpu()
        if self.store is not None:
            keys = map(self.key, raws)
            self.store.put([(key, each.numpy().tobytes()) for key, each in zip(keys, maps, strict=True)])
        return self.finished(maps)

    def finished(self, maps: Float16[Tensor, "b d h w"]) -> Float16[Tensor, "b _c _h _w"]:
        """The latents of maps; every second row and column of the maps where the whitening is not known."""
        if self.encoder.whitening is None:
            return maps[:, : self.encoder.config.features, ::SPARSE, ::SPARSE].contiguous()
        return self.encoder.whitened(maps)

    def key(self, raw: Raw) -> bytes:
        """Digest of an image, of the rules for its pixels and of the encoder."""
        digest = hashlib.sha256(self.prefix)
        if isinstance(raw, bytes):
            digest.update(raw)
        else:
            array = np.ascontiguousarray(raw)
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.digest()


def identity(config: EncoderConfig, rules: PixelRules) -> bytes:
    """What the maps of an image depend on beside the image."""
    encoder = {
        name: getattr(config, name) for name in ("name", "model", "layers", "digest", "features", "side", "thumbnail")
    }
    return json.dumps([encoder, asdict(rules)], sort_keys=True).encode()
