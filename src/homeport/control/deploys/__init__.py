"""Deploys manifests: makes revisions, brings them up, routes their URLs; rolls back and stops."""
