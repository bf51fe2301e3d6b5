"""What tests share: small models, records by hand, recorded servers."""
