"""What must hold of ingested data before anything is built on it.

facts    derived columns: numbers and booleans, no text
suite    the expectations and their run by Great Expectations
"""
