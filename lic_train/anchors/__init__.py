"""Conventional codecs on the same images and clips, as rows to compare with."""
