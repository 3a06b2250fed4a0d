"""Hands events on: out of the outbox, into the stream and to the webhooks."""
