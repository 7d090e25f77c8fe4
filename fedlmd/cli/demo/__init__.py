"""The demo: a federation on this machine, from starting its nodes to predicting what no worker has seen."""
