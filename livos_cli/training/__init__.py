"""Training: sources, clips, loss, and runs that resume."""
