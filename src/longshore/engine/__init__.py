"""The engine: plans bucket operations and carries shards forward, a batch at a time."""
