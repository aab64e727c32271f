"""What is remembered: records, ports, errors and time; SQL only in ``store/postgres/``.

records.py    every fact that crosses a folder
policy.py     the operator's settings: risk target, label rate, reference, ...
ledger.py     the port: ``Ledger.begin()`` gives a transaction over all facts
memory.py     the ledger in memory, with the same promises
errors.py     ``SteersmanError`` and its branches
clock.py      time as an argument
environ.py    settings from the environment, every problem reported at once
postgres/     the ledger on PostgreSQL, migrations, notifications, the embedded server
"""
