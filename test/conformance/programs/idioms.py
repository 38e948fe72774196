"""A program that writes to the office as Python programs do: implicit transactions, executemany, row factories, adapters.

    python3 test/conformance/programs/idioms.py <file>
"""

import sqlite3
import sys

db = sqlite3.connect(sys.argv[1], timeout=20)
db.row_factory = sqlite3.Row
# Foreign keys are off, as Python has them.

# A transaction that began by itself, committed by the with block.
with db:
    db.executemany(
        "INSERT INTO people (name, boss, note) VALUES (?, ?, ?)",
        [(f"Person {n}", 1, value) for n, value in enumerate([None, 2**62, -0.0, "é\0x", b"\x00\x01", True])],
    )
    db.executemany(
        "INSERT INTO memberships VALUES (:person, :team, :since)",
        ({"person": row["id"], "team": "core", "since": row["id"] / 3} for row in db.execute("SELECT id FROM people WHERE id > 4").fetchall()),
    )

# Rolled back by the exception.
try:
    with db:
        db.execute("DELETE FROM tasks")
        db.execute("INSERT INTO people (name) VALUES ('ada')")
except sqlite3.IntegrityError:
    pass

# Changed while it is read.
for row in db.execute("SELECT id, title FROM tasks ORDER BY id"):
    db.execute("UPDATE tasks SET title = ? WHERE id = ?", (row["title"].upper(), row["id"]))
db.commit()

# Never committed: gone when the connection closes.
db.execute("UPDATE teams SET title = 'lost'")
db.close()

# In autocommit mode, with savepoints and foreign keys, and functions of the program's own.
db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
db.execute("PRAGMA foreign_keys = ON")
db.create_function("shout", 1, lambda text: text + "!")
db.create_collation("backwards", lambda a, b: (a < b) - (a > b))
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE projects SET title = shout(title)")
db.execute("SAVEPOINT s")
db.execute("DELETE FROM projects")
db.execute("ROLLBACK TO s")
db.execute("UPDATE teams SET code = 'operations' WHERE code = 'ops'")
db.execute("COMMIT")
db.execute("DELETE FROM people WHERE id = (SELECT id FROM people ORDER BY name COLLATE backwards LIMIT 1)")
db.close()
