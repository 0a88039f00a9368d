"""Train the adapter: tokens and batches in ``data``, packed ``attention``, the ``loop``, its
``checkpoint``; ``python -m pipeline.train`` runs them."""
