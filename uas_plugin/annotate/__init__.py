"""Annotation at scale: caption and transcript -> language model -> checked schema labels.

Cuts go in and come out with ``supervision.custom["uas"]``; what fails a check stands in
``rejected.jsonl`` with the reason. The way of the labels follows UniAudio-Token (arXiv 2605.31521,
section 3.1) and UAS-Audio (arXiv 2604.12506, section 2.2): a caption of the audio and the
ground-truth transcript are merged into JSON by a language model behind an OpenAI-compatible
server, then filtered. The prompts are our own (``prompts/*.txt``).
"""
