"""What stock ESPnet recipes read, written from a token dump. Nothing here imports ESPnet."""
