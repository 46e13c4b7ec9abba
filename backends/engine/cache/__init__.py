"""KV cache: the radix tree of cached tokens, the KV pool and snapshots of recurrent state."""
