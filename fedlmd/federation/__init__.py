"""The federation: Flower's server and workers, the messages between them, and the processes that they run in.

Nothing here imports torch: Flower starts a new process for every message, and torch's import would cost seconds in
each. The networks live in the warm trainer (``trainer``), one process at each worker, which Flower's short-lived
processes call through a Unix socket.
"""
