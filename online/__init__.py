"""Choosing an expert and learning from labels; calling experts."""
