"""Metrics: one a module, pure functions of plain values and NumPy arrays.

Nothing here reads a file, and nothing imports torch or ESPnet. scikit-learn is imported inside the
functions that fit something.
"""
