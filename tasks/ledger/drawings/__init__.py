"""Pictures drawn from the ledger."""
