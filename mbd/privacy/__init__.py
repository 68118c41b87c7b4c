"""What a release proves, and the noise that it takes: pure mathematics, no data and no models."""
