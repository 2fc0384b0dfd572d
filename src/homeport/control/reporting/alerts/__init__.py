"""Alerts: measures the watched values, and sends webhooks a message when one is beyond its limit."""
