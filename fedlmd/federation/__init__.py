"""The federation: Flower's server and workers, what they say to each other, and the processes that they run in.

Nothing here imports torch: Flower starts a new process for every message, and torch's import would cost seconds in
each. The models live in the warm trainer (``trainer``), one process at each worker, which Flower's short ones ask
through a socket (``wire``).
"""
