"""The lineage in the forms of other tools. No export names a person, be it by name or by key."""
