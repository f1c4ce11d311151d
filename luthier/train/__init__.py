"""The trainer: the only torch, always in a process of its own (`python -m luthier.train RUN`). Imports data and
core."""
