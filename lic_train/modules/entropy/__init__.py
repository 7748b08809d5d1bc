"""The entropy path: whatever decides an index into a coder's table, and the coders themselves."""
