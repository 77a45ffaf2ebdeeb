"""The default corpus, synthesized: speech, sounds, music and mixtures with exact truth."""

RATE = 16_000
"""Sampling rate of every synthesized clip, Hz."""
