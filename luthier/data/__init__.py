"""JSONL lines, chat templates, token rows, receipts. Knows no database, no HTTP, no torch."""
