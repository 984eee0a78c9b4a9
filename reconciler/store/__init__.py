"""State: what is, and what happened. The only package that knows SQL.

Modules are the nouns: `objects` (what Git declared), `devices`, `rosters` (long lists of names), `runs` and
`tasks` (a batch's work), `rates`, `events`, `commands`, `identities`, `tokens`. Each function takes a connection
inside a transaction of `database.Database` and makes it move with as few statements as possible, whatever the fleet's
size.
"""
