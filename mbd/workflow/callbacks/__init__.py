"""Call-backs: tells the endpoints of others what became of requests, safely although their addresses are strangers'.

`policy` says which URLs may be called, `formats`, `standard` and `opendsr` what is said, `pinned` how it is sent,
`sending` when, and `opening` puts them together.
"""
