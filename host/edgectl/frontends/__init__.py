"""Model files and framework objects to Models: one file per source."""
