"""Short videos, read in stages: what is said, of what and how, and what is seen; a cohort comes out of it.

After *Text, Sound and Scene of short videos*: the pipeline of arXiv 2604.00994 (`inspired`: its abstract alone was
read). Each stage is a plug-in; those in `mbd.clips.stock` are small and run anywhere.
"""
