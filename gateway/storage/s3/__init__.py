"""Stores that speak the S3 protocol; the only part of the gateway that knows the AWS SDK."""
