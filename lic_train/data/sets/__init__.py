"""Sets of images and clips that have a layout of their own."""
