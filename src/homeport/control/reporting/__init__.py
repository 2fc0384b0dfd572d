"""What the server tells others by itself: `alerts` go to webhooks, `traces` to a receiver of OpenTelemetry."""
