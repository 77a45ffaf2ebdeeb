"""Token decoder: token ids -> log-mel (conditional flow matching) -> waveform (vocoder)."""
