"""Ingestion, measured: make bench-ingest."""
