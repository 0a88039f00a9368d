"""What growing data costs all data stages, measured: make bench-growth."""
