"""One video from first frame to published results: propagate, write, keep checkpoints, resume."""
