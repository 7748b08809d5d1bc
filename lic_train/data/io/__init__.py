"""Image and video files: reading and writing."""
