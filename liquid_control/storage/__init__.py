"""Training data: rollouts in sequences, and replay buffers."""
