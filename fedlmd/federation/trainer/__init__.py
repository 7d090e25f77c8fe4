"""The warm trainer of a worker: a process that keeps data and networks in memory between messages, and its client."""
