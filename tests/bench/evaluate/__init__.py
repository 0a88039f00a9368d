"""Evaluation and gate, measured: metrics, quickness, uncertainty, memorisation."""
