"""Everything that is kept in SQL: the ledger, the lineage, requests, suppression, versions and certificates.

`database` opens it; every other function takes a connection from `begin_locked` (to write) or `begin_snapshot`
(to read), so that one transaction can span several of them. It knows neither torch nor how a certificate is signed.
"""
