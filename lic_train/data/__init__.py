"""Images in: photographs of a folder or of installed packages, cropped into training batches."""
