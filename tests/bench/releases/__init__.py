"""Releases in S3, measured: publishing under faults, promotion, serving."""
