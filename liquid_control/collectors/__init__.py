"""Policies acting in environments, in this process or on workers, and what they collect."""
