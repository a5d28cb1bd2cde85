-- +goose Up
-- What was kept for each project that is on a forge is kept for each codebase: '' is the main one.
ALTER TABLE connections RENAME TO connections_before;
CREATE TABLE connections (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    forge TEXT NOT NULL CHECK (forge IN ('github', 'gitlab', 'gitea', 'azure-devops')),
    api TEXT NOT NULL CHECK (api <> ''),
    repository TEXT NOT NULL CHECK (repository <> ''),
    repository_id TEXT NOT NULL DEFAULT '',
    shared INTEGER NOT NULL DEFAULT 0 CHECK (shared IN (0, 1) AND (shared = 0 OR codebase <> '')), -- its token is the main codebase's
    link TEXT NOT NULL DEFAULT '', -- the repository's page
    forks TEXT NOT NULL CHECK (forks IN ('run', 'approve')),
    hook_ids TEXT NOT NULL DEFAULT '', -- separated by blanks
    synced INTEGER NOT NULL DEFAULT 0 CHECK (synced IN (0, 1)), -- the pull requests of before are known
    reacted BIGINT NOT NULL DEFAULT 0, -- the last event whose statuses and comments are on the forge
    problem TEXT NOT NULL DEFAULT '', -- what the forge refuses
    problem_at BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, codebase)
);
INSERT INTO connections (project, forge, api, repository, repository_id, link, forks, hook_ids, synced, reacted, problem, problem_at, created_at)
    SELECT project, forge, api, repository, repository_id, link, forks, hook_ids, synced, reacted, problem, problem_at, created_at FROM connections_before;
DROP TABLE connections_before;

DROP INDEX deliveries_open;
DROP INDEX deliveries_age;
ALTER TABLE deliveries RENAME TO deliveries_before;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    delivery TEXT NOT NULL CHECK (delivery <> ''), -- the forge's id of it
    digest TEXT NOT NULL CHECK (digest <> ''),
    content TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('received', 'processed')),
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, codebase, delivery),
    UNIQUE (project, codebase, digest)
);
INSERT INTO deliveries (id, project, delivery, digest, content, state, reason, attempts, due_at, created_at)
    SELECT id, project, delivery, digest, content, state, reason, attempts, due_at, created_at FROM deliveries_before;
DROP TABLE deliveries_before;
CREATE INDEX deliveries_open ON deliveries (project, codebase, due_at) WHERE state = 'received';
CREATE INDEX deliveries_age ON deliveries (created_at) WHERE state = 'processed';

DROP INDEX commands_pull;
ALTER TABLE commands RENAME TO commands_before;
CREATE TABLE commands (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL CHECK (comment <> ''), -- the forge's id of it: a comment is obeyed once
    pull BIGINT NOT NULL,
    text TEXT NOT NULL,
    author TEXT NOT NULL,
    allowed INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    answer TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, codebase, comment)
);
INSERT INTO commands (project, comment, pull, text, author, allowed, answer, created_at)
    SELECT project, comment, pull, text, author, allowed, answer, created_at FROM commands_before;
DROP TABLE commands_before;
CREATE INDEX commands_pull ON commands (project, codebase, pull, created_at);

DROP INDEX reactions_age;
ALTER TABLE reactions RENAME TO reactions_before;
CREATE TABLE reactions (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL CHECK (name <> ''), -- of a commit status or a comment
    sent TEXT NOT NULL, -- what the forge was told last
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project, codebase, name)
);
INSERT INTO reactions (project, name, sent, updated_at) SELECT project, name, sent, updated_at FROM reactions_before;
DROP TABLE reactions_before;
CREATE INDEX reactions_age ON reactions (updated_at);

-- A pull request has its number in its codebase: two forges number theirs without asking each other.
DROP INDEX pulls_open;
ALTER TABLE pulls RENAME TO pulls_before;
CREATE TABLE pulls (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    number BIGINT NOT NULL CHECK (number > 0),
    title TEXT NOT NULL,
    base TEXT NOT NULL,
    topic TEXT NOT NULL DEFAULT '',
    head TEXT NOT NULL,
    author TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'merged', 'closed')),
    merged_as TEXT NOT NULL DEFAULT '',
    reviewers TEXT NOT NULL DEFAULT '', -- of head, separated by blanks
    forge INTEGER NOT NULL DEFAULT 0 CHECK (forge IN (0, 1)),
    link TEXT NOT NULL DEFAULT '',
    fork INTEGER NOT NULL DEFAULT 0 CHECK (fork IN (0, 1)),
    held TEXT NOT NULL DEFAULT '', -- a fork's head that waits for a member
    moves INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project, codebase, number)
);
INSERT INTO pulls (project, codebase, number, title, base, topic, head, author, state, merged_as, reviewers, forge, link, fork, held, moves, created_at, updated_at)
    SELECT project, codebase, number, title, base, topic, head, author, state, merged_as, reviewers, forge, link, fork, held, moves, created_at, updated_at FROM pulls_before;
DROP TABLE pulls_before;
CREATE UNIQUE INDEX pulls_open ON pulls (project, codebase, author, base, topic) WHERE state = 'open' AND forge = 0;
