"""What watches a run. Callbacks know the contract, never a kind of codec."""
