"""KV cache: radix tree of cached tokens, KV pool, snapshots of recurrent state."""
