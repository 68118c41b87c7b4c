"""The field's methods and ours on the same rows, by the same backbone, in the same run: one file a method."""
