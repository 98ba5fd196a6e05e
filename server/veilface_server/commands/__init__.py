"""What `veilface-server` does, one module for each kind of work."""
