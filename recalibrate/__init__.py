"""Keeping the promise: risk control, alarms, guard, publishing."""
