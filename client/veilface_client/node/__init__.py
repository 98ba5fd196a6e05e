"""The organisation's node: Flower's SuperNode, kept running, and what it is allowed to run."""
