"""Turning answers into labels."""
