"""Stand-in for AWS services. `server` carries requests, `model` checks them, and each service has a module."""
