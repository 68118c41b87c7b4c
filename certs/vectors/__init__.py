"""Golden certificates of every version of the formats. All of them verify for ever; none is ever made again."""
