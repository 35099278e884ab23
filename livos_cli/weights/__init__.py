"""Weights: where they are (locate, registry, hub), what is in them (convert), a network (load)."""
