"""Evaluation and gate: what is measured, beside what the field uses."""
