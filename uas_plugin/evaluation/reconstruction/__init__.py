"""``uas evaluate reconstruction``: how good the audio is that was made from tokens.

The judges are those of `uas_plugin.evaluation.judges`; `cache` runs them and keeps what a killed
run finished; `clips` reads recordings and systems; `rows` makes figures of the measurements and
`table` shows them.
"""
