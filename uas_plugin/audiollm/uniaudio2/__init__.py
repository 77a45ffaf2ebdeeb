"""The unified text/audio language model of UniAudio 2.0."""
