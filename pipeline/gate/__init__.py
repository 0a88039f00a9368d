"""May this adapter be published? Each file holds the rules of one kind."""
