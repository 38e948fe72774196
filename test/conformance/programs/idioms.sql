-- What people type into the sqlite3 shell: imports, dots, settings, and foreign keys off as the shell has them.
.timeout 20000
.mode csv
.import people.csv people
.import --skip 1 --csv teams.csv teams
.mode list
.parameter set @note '''from a parameter'''
UPDATE people SET note = @note WHERE name = 'Ada';
.read more.sql
BEGIN;
DELETE FROM tasks;
ROLLBACK;
PRAGMA foreign_keys = ON;
DELETE FROM teams WHERE code = 'ops';
UPDATE projects SET id = id + 1000 WHERE title = 'Attic';
.save copy.db
