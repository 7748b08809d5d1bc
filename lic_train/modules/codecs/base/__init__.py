"""Families that the codecs share: transforms, hyperpriors, progressive bits, frames."""
