"""De-identification, measured: make bench-deidentify."""
