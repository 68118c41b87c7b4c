"""Other programs' ways to reach this service: each facade speaks one standard, in that standard's own errors."""
