"""Sweeps: studies of many runs, on this machine or on a cluster."""
