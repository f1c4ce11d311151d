"""How long a test waits for what must happen. A success ends the wait at once; only a failure takes all of it."""

PATIENCE_S = 300
