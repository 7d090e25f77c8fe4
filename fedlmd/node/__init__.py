"""One node of a cluster: its folder, trainer, Flower processes and REST service; and a local cluster of nodes."""
