"""Train the adapter: tokens and batches in ``data``, the ``loop``, its
``checkpoint``; ``python -m pipeline.train`` runs them."""
