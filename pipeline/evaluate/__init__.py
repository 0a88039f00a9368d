"""The candidate, the bare base and the champion on the same test rows."""
