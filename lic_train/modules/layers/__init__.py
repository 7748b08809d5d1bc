"""Building blocks that codecs share. They know nothing of codecs, training or files."""
