"""The network's step as graphs that other programs run: made, kept, and run in place of PyTorch."""
