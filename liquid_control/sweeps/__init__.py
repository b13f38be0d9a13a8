"""Studies: many runs with one purpose, on this machine or on a cluster, and what came of them."""
