"""The API's routes, one module for each thing that is asked about."""
