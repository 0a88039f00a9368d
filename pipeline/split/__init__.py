"""De-identified records become train, validation and test: whole groups, no near-duplicate in two.

arrays       in files that are mapped
parts        what this stage needs of the shards, in pieces that fit memory, each read once
groups       the split of a group
wording      what the records of a task share: instructions, templates
signatures   MinHash bands of a text's own words
duplicates   records with a near-duplicate in a stronger split; conflicting targets
output       the three files, at any size
profile      the report, and the description of the data
"""
