"""``uas evaluate reconstruction``: how good the audio is that was made from tokens.

`measure` defines a measurement; `asr`, `mos`, `voice` and `signals` are those there are; `cache`
runs them and keeps what a killed run finished; `clips` reads recordings and systems; `rows` makes
figures of the measurements and `table` shows them.
"""
