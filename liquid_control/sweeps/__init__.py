"""Studies: many runs with one purpose, on this machine or on a cluster, and their results."""
