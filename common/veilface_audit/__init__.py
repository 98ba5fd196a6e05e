"""An auditor's own reading of a ledger. Imports nothing of Veilface, on purpose."""
