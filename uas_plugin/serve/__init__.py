"""``uas serve``: an AudioLLM behind OpenAI's chat completions, with audio in and out.

The way of a request: ``app`` (HTTP) -> ``body`` (bytes) -> ``request`` (checked, audio decoded) ->
``batching`` (waits for company) -> ``engine`` (model, token decoder) -> ``answer`` (JSON, events).

Why not transformers' own server (``transformers serve``, 5.23)? It reads audio only for models of
its multimodal auto class and takes every causal LM, which our exports are, for a text model: audio
parts are dropped. It wants a tokenizer with a chat template, refuses ``modalities``, ``audio`` and
``response_format``, knows no audio tokens in answers, and batches only by paged attention, there
with the sampling settings of the first request for all.
"""
