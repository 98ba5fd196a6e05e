"""Enrol, verify, identify, forget: without HTTP or terminal. `Desk` is what a door opens."""
