"""What leaves an organisation is an event; events add up to an epsilon; a ledger keeps them."""
