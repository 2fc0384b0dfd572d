"""The zygote's side of a fork."""
