"""From a script to its manifest."""
