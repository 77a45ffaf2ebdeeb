"""Corpora as Lhotse Shar: a few large files in the place of one file a clip."""
