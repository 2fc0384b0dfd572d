"""The state on disk, which outlives the server: rows, blobs, secrets, logs."""
