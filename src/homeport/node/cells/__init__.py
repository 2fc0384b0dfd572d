"""The sandboxes that containers run in."""
