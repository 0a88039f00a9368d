"""A small HTTP server for the champion, good enough for a canary: ``moelora serve``.

    client ── app ── reader ──┐ waiting ┌── worker ── generate, choose
                              └─────────┘      │
    registry ── follower ── a release, verified and loaded beside the old one

``protocol`` says what is asked and answered (OpenAI's completions plus ``task`` and ``choices``),
``app`` turns it into HTTP, ``worker`` is the one thread that computes: all that waits when it gets
free shares a batch, whatever its tasks. ``follower`` watches a channel; each request is answered
by the release that was current when it came. Texts are in memory only, and in no log or metric.

``run`` puts them together as a process, ``answering`` is the arithmetic of one batch.
"""
