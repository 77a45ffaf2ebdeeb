"""What needs numpy, torch and k2 alone, and Python 3.9 or later.

k2 may live in an older interpreter than this package. There this folder is imported as the
top-level package ``portable``; hence its modules import each other relatively, and nothing else of
ours. No call is used that k2 1.23 or 1.24 lacks.
"""
