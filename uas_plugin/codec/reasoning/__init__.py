"""ReasoningCodec of UniAudio 2.0: reasoning and reconstruction tokens, flow decoder, SQ-Codec."""
