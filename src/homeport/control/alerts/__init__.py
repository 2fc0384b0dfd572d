"""Alerts: looks at what they are about, and tells webhooks when something is wrong."""
