"""Frozen values, job states, errors, settings, ids, prices. Imports nothing of ours."""
