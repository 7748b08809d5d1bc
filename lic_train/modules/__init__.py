"""Everything that learns: the codecs, the layers they are built of, and the module that trains."""
