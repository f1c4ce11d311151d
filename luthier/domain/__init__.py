"""The product's verbs: upload, create a job, run it, answer, notify. No HTTP, no SQL text, no torch."""
