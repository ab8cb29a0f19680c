"""What tests and benchmarks share: real servers, fixtures, stores that misbehave."""
