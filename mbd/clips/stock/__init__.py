"""Stages that come with us: small, without a GPU or a download, and to be replaced by better ones."""
