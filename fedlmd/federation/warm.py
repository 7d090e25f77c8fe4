"""``python -m fedlmd.federation.warm``: the program of the warm trainer, which serves one site's learner."""

from __future__ import annotations

import logging
import os

import torch

from fedlmd.federation.trainer import serve
from fedlmd.federation.wire import TrainerClient
from fedlmd.learner import build_handler

__all__ = ["main"]


def main() -> None:
    """Serve until the process is ended; the environment names the socket, its key, the site and the threads."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(int(os.environ.get("FEDLMD_THREADS", "1")))
    line = TrainerClient.from_environment(os.environ)
    serve(build_handler(), line.socket_path, line.authkey)


if __name__ == "__main__":
    main()
