"""The client of an ACME server (RFC 8555), with certbot's library `acme`.

Nothing of it is imported before the first order, because `acme`, `josepy` and `requests` take 0.2 s to import.
"""
