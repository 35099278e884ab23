"""Masks in: any drawing, read as object ids; masks drawn from hints."""
