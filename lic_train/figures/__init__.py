"""What a run draws: curves, pictures, latents, and tables on the terminal."""
