"""``python -m fedlmd.worker.trainer_process``: the program of the warm trainer, which serves one worker."""

from __future__ import annotations

import logging
import os

import torch

from fedlmd.federation.trainer.client import TrainerClient
from fedlmd.federation.trainer.server import serve
from fedlmd.worker.handler import build_handler


def main() -> None:
    """Serve until the process is ended; the environment names the socket, its key, the worker and the threads."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(int(os.environ.get("FEDLMD_THREADS", "1")))
    client = TrainerClient.from_environment(os.environ)
    serve(build_handler(), client.socket_path, client.authkey)


if __name__ == "__main__":
    main()
