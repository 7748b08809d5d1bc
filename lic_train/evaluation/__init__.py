"""Codecs are measured by their files, which another process decodes."""
