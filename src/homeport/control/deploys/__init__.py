"""From a manifest to URLs that answer, and back."""
