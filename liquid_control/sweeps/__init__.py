"""Studies: many runs with one purpose, and what came of them."""
