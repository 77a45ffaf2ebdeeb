"""Language model over text pieces and audio tokens: vocabulary, chat, packing, generation."""
