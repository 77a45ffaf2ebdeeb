"""Corpora to manifests, audio reading, training targets, token storage."""
