"""What a codec is worth, measured on files that another process decodes."""
