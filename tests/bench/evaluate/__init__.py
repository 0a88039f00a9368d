"""Evaluation and gates, measured: metrics, quickness, uncertainty."""
