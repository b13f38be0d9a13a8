"""What agents learn from: rollouts in sequences, and replay buffers."""
