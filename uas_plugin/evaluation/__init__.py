"""Evaluation of a run: what is read, which figures are made of it, and how they are laid out."""
