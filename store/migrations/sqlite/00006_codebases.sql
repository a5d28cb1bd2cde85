-- +goose Up
CREATE TABLE codebases ( -- the further ones of projects; '' in a column codebase is the main one
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (name <> ''),
    default_branch TEXT NOT NULL,
    git_url TEXT NOT NULL DEFAULT '',
    linked INTEGER NOT NULL DEFAULT 0 CHECK (linked IN (0, 1)), -- built from where it is a submodule
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);

ALTER TABLE runs ADD COLUMN codebase TEXT NOT NULL DEFAULT '';
ALTER TABLE pushes ADD COLUMN codebase TEXT NOT NULL DEFAULT '';
ALTER TABLE pulls ADD COLUMN codebase TEXT NOT NULL DEFAULT '';

DROP INDEX pulls_open;
CREATE UNIQUE INDEX pulls_open ON pulls (project, codebase, author, base, topic) WHERE state = 'open' AND forge = 0;

ALTER TABLE refs_seen RENAME TO refs_before;
CREATE TABLE refs_seen (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    ref TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    PRIMARY KEY (project, codebase, ref)
);
INSERT INTO refs_seen (project, ref, commit_hash) SELECT project, ref, commit_hash FROM refs_before;
DROP TABLE refs_before;
