"""Sessions and leases in Redis or Valkey, version 7 or later; nothing else imports redis."""
