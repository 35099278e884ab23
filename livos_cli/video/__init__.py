"""Video in, masks in, results out."""
