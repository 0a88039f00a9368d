"""The releases benchmark: one module for each group of figures."""
