"""Work on layers, whose files belong to the ids that cells have."""
