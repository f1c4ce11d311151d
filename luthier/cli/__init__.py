"""The commands and the Python functions: clients of the public API, on the official `openai` package."""
