"""What outlives the server: rows, blobs, secrets, logs."""
