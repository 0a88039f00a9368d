"""The service under load and faults: see __main__."""
