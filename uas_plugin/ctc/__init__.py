"""CTC over token frames: posteriors as files, alignment, search with and without k2.

``portable`` holds what also runs in an interpreter of k2's own (``local/install_k2.sh``); the rest
asks :mod:`uas_plugin.ctc.backend` where k2 is.
"""
