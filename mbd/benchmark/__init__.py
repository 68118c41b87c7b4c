"""The zoo, judged alike: train every network by the one loop, lose channels in many ways, compare. No deletion here."""
