"""What the expectations on records meet, shard by shard.

A shard's findings depend on its rows, on the parameters, and on those of its records that other
shards are at odds with; while these stay, they are taken from the cache, so that only new shards
are read.
"""
