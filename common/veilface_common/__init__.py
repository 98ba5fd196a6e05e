"""What the organisations and the coordinator must agree on."""
