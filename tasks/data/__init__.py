"""Image sets: uint8 tensors in memory."""
