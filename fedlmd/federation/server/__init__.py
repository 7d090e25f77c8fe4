"""The server's side of a run: rounds, guard, strategies, calibration, release."""
