"""Photographs of a folder or of installed packages are cropped into training batches."""
