"""The only SQL, and the blobs. One verb, one transaction. Knows no HTTP and no torch."""
