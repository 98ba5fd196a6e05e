"""What invents the world: drawn people, partitions and whole federations on one machine."""
