"""Does the guarantee hold? What `veilface-sim audit` measures, against what the ledger claims."""
