"""Files of task data become shards of records; what cannot be used goes to quarantine.

formats     a file's bytes to rows of text, whatever its format, compression and encoding
rows        rows to records: field names, defaults, and every check with its reason
selection   duplicates and sampling, over all shards
"""
