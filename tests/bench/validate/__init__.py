"""What validate costs and how often it cries wolf: `make bench-validate`."""
