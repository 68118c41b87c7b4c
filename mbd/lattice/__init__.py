"""The modality lattice: blocks, exact integer statistics, and one strongly convex head per availability pattern."""
