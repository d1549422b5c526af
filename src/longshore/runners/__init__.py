"""Implementations of runner.Runner: in which processes shards run."""
