"""What one participant of a federation does: train, score, keep state between rounds."""
