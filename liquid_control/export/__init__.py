"""Policies as files for robots: a description without a framework, and what is made of it."""
