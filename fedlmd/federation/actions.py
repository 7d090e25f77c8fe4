"""Actions that a request can ask of a worker, by their names in messages."""

from __future__ import annotations

TRAIN = "train"
"""One round: evaluate the global weights, train, reply with the update."""
DENOISER = "denoiser"
"""Reply with the denoiser that this worker trained, for merges that do not average denoisers in rounds."""
SUMS = "sums"
"""Reply with the sums over embeddings from which the class Gaussians are made."""
MOMENTS = "moments"
"""Score held-back images; reply with count, mean and standard deviation of each score."""
THRESHOLDS = "thresholds"
"""Reply with a sketch of each score on the scale that all workers share."""
INSTALL = "install"
"""Store a release and make it the current one."""
TRAIN_ALONE = "alone"
"""Train and calibrate without a federation."""
