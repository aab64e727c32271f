"""λ under drift: the loop's own parts in event time, on recorded answers."""
