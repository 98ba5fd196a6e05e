"""What sees only sums: the coordinator of a federation."""
