"""The measurements of the README, one command each."""
