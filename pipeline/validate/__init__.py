"""What must hold of ingested data before anything is built on it.

facts           derived columns of a record: numbers and booleans, no text
forms           is a target of the form that its task kind's answers have
across          what only all shards together tell
expectations    what must hold, and what mends it
suite           their run by Great Expectations
shards          the findings of each shard, kept by content
drift           has the data moved away from the baseline's
docs            Data Docs
"""
