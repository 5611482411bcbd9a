"""One room for runs: a run and its loop, checkpoints, sweeps and comparisons, and what they print.

Nothing is imported here, so that a command finds out what is wrong before torch is loaded.
"""
