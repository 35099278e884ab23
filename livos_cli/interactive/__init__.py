"""Masks by hand: what clicks and boxes on a frame mean."""
